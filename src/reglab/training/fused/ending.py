"""How the members of a pack end: each records what it would have recorded alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reglab.errors import Diverged
from reglab.tracking import RunTracker, finish_runs
from reglab.training.checkpoints import write_atomically
from reglab.training.ending import JobResult, Status, record_failure, record_result
from reglab.training.experiment import test_metrics
from reglab.training.fused.best import Best
from reglab.training.fused.checkpoints import best_content, write_member
from reglab.training.fused.module import Fused
from reglab.training.fused.recorder import PackRecorder
from reglab.training.fused.stack import member_state

# What Closing measures again at the best epoch; the rest speaks of the last one.
_OF_THE_END = ("objective/", "naive_gap/", "optimizer/", "system/")


class Endings:
    """Ends the runs of a pack's jobs, in groups, and tells ``on_end`` (job number, result) once for each."""

    def __init__(self, trackers: Sequence[RunTracker], best: Best, on_end: Callable[[int, JobResult], None]) -> None:
        self.trackers = trackers
        self.best = best
        self.recorder: PackRecorder | None = None
        self._on_end = on_end
        self._ended: set[int] = set()

    def left(self) -> list[int]:
        """Return the numbers of the jobs whose runs are open."""
        return [place for place in range(len(self.trackers)) if place not in self._ended]

    def end(self, module: Fused, ended: Mapping[int, Diverged | None]) -> None:
        """End these jobs: finished where there is no error, otherwise failed."""
        results = {}
        for place, error in ended.items():
            if error is None:
                results[place] = self._finish(module, place)
            else:
                self._keep_best(module, place)
                results[place] = record_failure(self.trackers[place], "FAILED", str(error), failure="diverged")
        self._close(results)

    def rest(self, module: Fused, status: Status, message: str) -> None:
        """End all jobs that are left without a result; the best epoch of each is kept."""
        results = {}
        for place in self.left():
            self._keep_best(module, place)
            results[place] = record_failure(self.trackers[place], status, message)
        self._close(results)

    def _close(self, results: Mapping[int, JobResult]) -> None:
        finish_runs([self.trackers[place] for place in results], [result.status for result in results.values()])
        self._ended |= set(results)
        for place, result in results.items():
            self._on_end(place, result)

    def _finish(self, module: Fused, place: int) -> JobResult:
        assert self.recorder is not None
        pack, tracker = module.pack, self.trackers[place]
        experiment, row = pack.experiments[place], pack.places.index(place)
        stops = pack.base.cocktail.stops and self.best.epochs[place] > 0
        final = dict(self.recorder.latest[place]) | {"epoch": float(self.recorder.epochs[place])}
        if stops:
            best = {k: v for k, v in self.best.metrics[place].items() if not k.startswith(_OF_THE_END)}
            final |= best | {"epoch": float(self.best.epochs[place])}
            final = {key: value for key, value in final.items() if not key.endswith("/update")}
        if experiment.measure.test:
            state = self.best.state(place, pack.base) if stops else member_state(pack.stack, row, pack.base)
            pack.base.load_state_dict(state)
            data = experiment.data
            final |= test_metrics(pack.base.model, pack.base.cocktail, data.test, data.task)
        folder = tracker.folder / "checkpoints"
        for path in write_member(folder, module, row, self.best, self.recorder.epochs[place]):
            tracker.artifact(path, "checkpoints")
        tracker.tag(**{"reglab.weights": "best" if pack.base.cocktail.stops else "last"})
        return record_result(tracker, experiment, final)

    def _keep_best(self, module: Fused, place: int) -> None:
        if self.best.epochs[place]:
            path: Path = self.trackers[place].folder / "checkpoints" / "best.ckpt"
            write_atomically(best_content(module.pack, place, self.best), path)
