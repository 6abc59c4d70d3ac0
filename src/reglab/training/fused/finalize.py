"""Finalize the members of a pack: final metrics, checkpoints, examples and run status."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from reglab.core import signals
from reglab.core.describe_error import describe_error
from reglab.core.errors import Diverged, Unfused, is_full_disk
from reglab.measures.groups import enough_groups
from reglab.measures.numbers import table
from reglab.tracking import RunTracker, finish_runs, pack_manifest
from reglab.training import checkpoint_files
from reglab.training.best_epoch import final_metrics
from reglab.training.fit import record_weights, test_metrics
from reglab.training.fused.autotune import halves
from reglab.training.fused.best import Best
from reglab.training.fused.checkpoints import best_content, write_member
from reglab.training.fused.module import PackModule
from reglab.training.fused.per_example import final_examples, write_all
from reglab.training.fused.recorder import PackRecorder
from reglab.training.fused.stack import member_state
from reglab.training.job_result import JobResult, Status, record_failure, record_result


class PackFinalizer:
    """Ends the runs of a pack's jobs, in groups, and calls ``on_end(job index, result)`` once for
    each.

    Args:
        module: The pack's.
        trackers: Of each job; None where its run has ended before, so that there is nothing to end
            or report.
        best: The best epochs of its jobs.
        on_end: Called when a job has ended.
    """

    def __init__(
        self,
        module: PackModule,
        trackers: Sequence[RunTracker | None],
        best: Best,
        on_end: Callable[[int, JobResult], None],
    ) -> None:
        self.module = module
        self.best = best
        self.recorder: PackRecorder | None = None
        self._on_end = on_end
        self._open = {job_index: tracker for job_index, tracker in enumerate(trackers) if tracker is not None}

    def unfinished(self) -> list[int]:
        """Return the numbers of the jobs whose runs are open."""
        return list(self._open)

    def end(self, ended: Mapping[int, Diverged | None]) -> None:
        """End these jobs: finished where there is no error, otherwise failed."""
        results = {}
        ended = {job_index: error for job_index, error in ended.items() if job_index in self._open}
        finished = [job_index for job_index, error in ended.items() if error is None]
        self._keep_examples(finished)
        at_end = self._measured_at_end(finished)
        for job_index, error in ended.items():
            if error is None:
                results[job_index] = self._finish(job_index, at_end.get(job_index, {}))
            else:
                self._keep_best(job_index)
                results[job_index] = record_failure(self._open[job_index], "FAILED", str(error), failure="diverged")
        self._close(results)

    def end_remaining(self, status: Status, message: str) -> None:
        """End all open jobs without a result; the best epoch of each is kept."""
        results = {}
        for job_index, tracker in self._open.items():
            self._keep_best(job_index)
            results[job_index] = record_failure(tracker, status, message)
        self._close(results)

    def _close(self, results: Mapping[int, JobResult]) -> None:
        finish_runs([self._open[job_index] for job_index in results], [result.status for result in results.values()])
        for job_index, result in results.items():
            del self._open[job_index]
            self._on_end(job_index, result)

    def _keep_examples(self, job_indices: Sequence[int]) -> None:
        rows, task = self.module.measurement.rows, self.module.pack.task
        if not all(enough_groups(task, part.targets.length) for part in (rows.probe, rows.val)):
            return
        examples = final_examples(self.module.pack, self.module.measurement, self.best, job_indices)
        trackers = [self._open[job_index] for job_index in examples]
        for tracker, path in zip(
            trackers, write_all([t.folder for t in trackers], list(examples.values())), strict=True
        ):
            tracker.artifact(path)

    def _measured_at_end(self, job_indices: Sequence[int]) -> dict[int, dict[str, float]]:
        """Return what is measured once, of the weights that each job stands for, by its index."""
        module, found = self.module, dict[int, dict[str, float]]()
        if not module.measurement.settings.at_end:
            return found
        epochs = self.best.record.epochs
        by_best = [index for index in job_indices if module.pack.base.cocktail.stops and epochs[index]]
        by_last = [index for index in job_indices if index not in by_best]
        for chosen, stack_of in ((by_best, self.best.stack), (by_last, module.pack.stack_of)):
            if chosen:
                names, values = table(module.measurement.at_end(module.pack, stack_of(chosen), chosen))
                found |= {index: dict(zip(names, row, strict=True)) for index, row in zip(chosen, values, strict=True)}
        return found

    def _finish(self, job_index: int, at_end: Mapping[str, float]) -> JobResult:
        assert self.recorder is not None
        pack, tracker = self.module.pack, self._open[job_index]
        experiment, row = pack.experiments[job_index], pack.job_indices.index(job_index)
        best_epoch = self.best.record.epochs[job_index]
        by_best = pack.base.cocktail.stops and best_epoch > 0
        metrics = self.best.record.metrics[job_index] if by_best else None
        final = final_metrics(self.recorder.latest[job_index], self.recorder.epochs[job_index], metrics, best_epoch)
        if at_end:
            self.recorder.log_end(job_index, at_end, int(final["epoch"]))
        final |= at_end
        if experiment.measure.test:
            state = self.best.state(job_index) if by_best else member_state(pack.stack, row, pack.base)
            pack.base.load_state_dict(state)
            final |= test_metrics(pack.base.model, pack.base.cocktail, experiment.data, experiment.measure)
        folder = tracker.folder / "checkpoints"
        record_weights(tracker, pack.base.cocktail, write_member(folder, self.module, row, self.recorder, self.best))
        return record_result(tracker, experiment, final)

    def _keep_best(self, job_index: int) -> None:
        if self.best.record.epochs[job_index]:
            path: Path = self._open[job_index].folder / "checkpoints" / "best.ckpt"
            checkpoint_files.write(best_content(self.module.pack, job_index, self.best), path)


@contextmanager
def finalizing(finalizer: PackFinalizer, folder: Path) -> Iterator[None]:
    """Finalize every job however its pack ends; the checkpoint in ``folder`` is kept where the pack
    can be resumed.

    Args:
        finalizer: Of its jobs.
        folder: Of the pack's checkpoint.

    Raises:
        Unfused: Where memory ran out; any other error is raised again.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        unfinished = finalizer.unfinished()
        finalizer.end_remaining("KILLED", "out of memory: trained again in a smaller pack")
        pack_manifest.remove(folder)
        groups = [[unfinished[row] for row in half] for half in halves(len(unfinished))]
        raise Unfused(f"{len(unfinished)} members ran out of memory", [group for group in groups if group]) from error
    except BaseException as error:
        message = describe_error(error)
        if signals.was_signalled(error):
            finalizer.end_remaining("KILLED", "interrupted")
            return
        if is_full_disk(error):  # no job is to blame, and the pack can be resumed later
            finalizer.end_remaining("FAILED", message)
            raise
        pack_manifest.remove(folder)
        if len(finalizer.unfinished()) > 1:  # whose fault it is shows when each trains alone
            finalizer.end_remaining("KILLED", f"{message}: trained again in a smaller pack")
        else:
            finalizer.end_remaining("FAILED", message)
        raise
