"""Lightning callback of a pack: measure and record each epoch, finish and drop stopped members."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from reglab.core.errors import Diverged
from reglab.measures.numbers import table
from reglab.tracking import RunTracker, sync_runs
from reglab.tracking.tracker import log_pack
from reglab.training.fused.best import Best
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack
from reglab.training.recorder import Progress
from reglab.training.system_use import SystemUse

_SHOWN = ("train/loss", "val/loss", "gap/loss")


class PackRecorder(pl.Callback):
    """Does for each member what ``Recorder`` does for one job, with one measurement and one
    transfer for all.

    Args:
        trackers: Of each job; None where its run has ended before: its row is computed again, since
            how the others round may depend on the size of the pack, and recorded nowhere.
        on_end: Called with a job's number, and the reason where it failed, as soon as it has ended
            before the others: by early stopping or because it diverged.
    """

    def __init__(
        self,
        best: Best,
        trackers: Sequence[RunTracker | None],
        on_progress: Callable[[int, Progress], None] | None,
        on_end: Callable[[PackModule, dict[int, Diverged | None]], None],
    ) -> None:
        self.best = best
        self.trackers = trackers
        self.on_progress = on_progress
        self.on_end = on_end
        self.latest: dict[int, dict[str, float]] = {}
        self.epochs: dict[int, int] = {}
        self.ended: set[int] = set()
        self.stopped: set[int] = set()  # by a member of the cocktail
        self.measurement: PackMeasurement | None = None
        self._resumed: dict[str, Any] | None = None
        self._system = SystemUse()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, PackModule)
        pack = pl_module.pack
        pack.to(pl_module.device)
        jobs = pack.experiments
        device = pack.stack.device
        self.measurement = PackMeasurement([job.data for job in jobs], jobs[0].measure, device, pack.dtype)
        self.measurement.begin(pack, self._resumed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, PackModule)
        if pl_module.pack.done() == 0:
            self._record(trainer, pl_module, 0)
        self._stop_if_over(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Finish members whose loss is no longer finite, and end training where none is left."""
        assert isinstance(pl_module, PackModule)
        if pl_module.failures:
            self._end_members(trainer, pl_module, [])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, PackModule)
        epoch = trainer.current_epoch + 1
        every = pl_module.pack.experiments[0].measure.every
        if pl_module.alive() and (epoch % every == 0 or epoch == trainer.max_epochs):
            self._record(trainer, pl_module, epoch)
        if pl_module.alive() and self.measurement is not None:
            kept = pl_module.compact()
            if kept:
                self.measurement.keep(kept)

    def _record(self, trainer: pl.Trainer, module: PackModule, epoch: int) -> None:
        assert self.measurement is not None
        pack = module.pack
        gap = self.measurement.gap(pack)
        metrics = self._metrics(module, gap | self.measurement.weights(pack) | module.mean_terms(), epoch)
        rows = list(metrics)
        stopped = []
        if epoch > 0:
            if pack.base.cocktail.stops:
                stop = pack.stop(gap).tolist()
                stopped = [row for row in rows if stop[row]]
                self.stopped.update(pack.job_indices[row] for row in stopped)
            self.best.offer(pack, rows, [metrics[row] for row in rows], epoch)
        for row in rows:
            job_index = pack.job_indices[row]
            self.latest[job_index], self.epochs[job_index] = metrics[row], epoch
        self._log(pack, metrics, epoch)
        self._show(trainer, module, rows, epoch)
        self._end_members(trainer, module, stopped if epoch != trainer.max_epochs else [])

    def recorded(self) -> int:
        """Return the last epoch that any of the runs has recorded, which may lie behind the
        checkpoint.
        """
        return max((tracker.journal.top for _, tracker in self._open(range(len(self.trackers)))), default=0)

    def show_activity(self, trainer: pl.Trainer, doing: str) -> None:
        """Show an activity, such as compiling, as the jobs' progress."""
        for job_index, _ in self._open(range(len(self.trackers))):
            if self.on_progress is not None:
                shown = {key: self.latest[job_index][key] for key in _SHOWN if job_index in self.latest}
                epoch, last = self.epochs.get(job_index, 0), trainer.max_epochs or 0
                self.on_progress(job_index, Progress(epoch, last, shown, doing))

    def tag(self, **tags: str) -> None:
        """Tag the runs that are open."""
        for _, tracker in self._open(range(len(self.trackers))):
            tracker.tag(**tags)

    def _open(self, job_indices: Sequence[int]) -> Iterator[tuple[int, RunTracker]]:
        """Yield (position in ``job_indices``, tracker) of the jobs whose runs are open."""
        for position, job_index in enumerate(job_indices):
            tracker = self.trackers[job_index]
            if tracker is not None and job_index not in self.ended:
                yield position, tracker

    def _log(self, pack: Pack, metrics: Mapping[int, Mapping[str, float]], epoch: int) -> None:
        recorded = [(row, tracker) for row, tracker in self._open(pack.job_indices) if row in metrics]
        if recorded:
            keys = list(metrics[recorded[0][0]])
            values = [list(metrics[row].values()) for row, _ in recorded]
            log_pack([tracker for _, tracker in recorded], keys, values, epoch)

    def _metrics(self, module: PackModule, tensors: Mapping[str, Tensor], epoch: int) -> dict[int, dict[str, float]]:
        """Return the metrics of each living row of the stack; one whose loss is not finite is taken
        out.
        """
        names, rows_of = table(tensors)
        system = self._system()
        metrics = {row: dict(zip(names, rows_of[row], strict=True)) for row in module.alive()}
        for row, measured in metrics.items():
            if "objective/task" in measured:
                measured["naive_gap/loss"] = measured["val/loss"] - measured["objective/task"]
            if epoch > 0:
                measured["optimizer/lr"] = float(module.rates[-1, module.pack.job_indices[row]])
            measured.update(system)
            if epoch > 0 and not math.isfinite(measured["train/loss"] + measured["val/loss"]):
                module.fail(
                    row, Diverged(module.pack.done(), epoch, float(module.rates[-1, module.pack.job_indices[row]]))
                )
        return {row: metrics[row] for row in module.alive()}

    def _show(self, trainer: pl.Trainer, module: PackModule, rows: list[int], epoch: int) -> None:
        if self.on_progress is None:
            return
        job_indices = [module.pack.job_indices[row] for row in rows]
        for position, _ in self._open(job_indices):
            job_index = job_indices[position]
            shown = {key: self.latest[job_index][key] for key in _SHOWN}
            self.on_progress(job_index, Progress(epoch, trainer.max_epochs or epoch, shown))

    def _end_members(self, trainer: pl.Trainer, module: PackModule, stopped: list[int]) -> None:
        """End the runs of members that stopped or failed; their rows are dead from now on."""
        ended: dict[int, Diverged | None] = {module.pack.job_indices[row]: None for row in stopped}
        ended |= module.failures
        if not ended:
            return
        self.on_end(module, ended)
        self.ended |= set(ended)
        module.dead |= set(stopped)
        module.failures.clear()
        self._stop_if_over(trainer, module)

    def _stop_if_over(self, trainer: pl.Trainer, module: PackModule) -> None:
        trainer.should_stop |= not any(self._open([module.pack.job_indices[row] for row in module.alive()]))

    def state_dict(self) -> dict[str, Any]:
        """Return the state that measuring and early stopping resume from.

        The journals are synchronized here, as for one job.
        """
        job_indices = range(len(self.trackers))
        return {
            "measured": self.measurement.state() if self.measurement else None,
            "best": self.best.state_dict(),
            "journals": sync_runs([tracker for _, tracker in self._open(job_indices)]),
            "latest": {job_index: dict(metrics) for job_index, metrics in self.latest.items()},
            "epochs": dict(self.epochs),
            "ended": sorted(self.ended),
            "stopped": sorted(self.stopped),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = state_dict["measured"]
        self.best.load_state_dict(state_dict["best"])
        self.latest, self.epochs = dict(state_dict["latest"]), dict(state_dict["epochs"])
        self.ended, self.stopped = set(state_dict["ended"]), set(state_dict["stopped"])

    def member(self, pack: Pack, row: int) -> dict[str, Any]:
        """Return the state of ``Recorder`` for the job in ``row``."""
        job_index = pack.job_indices[row]
        tracker = self.trackers[job_index]
        assert tracker is not None
        assert self.measurement is not None
        return {
            **self.measurement.member(pack, row),
            "latest": dict(self.latest[job_index]),
            "recorded": self.epochs[job_index],
            "stopped": job_index in self.stopped,
            "journal": tracker.journal.position,
        }
