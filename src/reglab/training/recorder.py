"""Lightning callback that measures, records and shows each epoch, and stops early."""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pytorch_lightning as pl

from reglab.core.errors import Diverged
from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.measures.numbers import table
from reglab.tracking import RunTracker
from reglab.tracking.tracker import log_pack
from reglab.training.checkpoint_constants import tensors
from reglab.training.system_use import SystemUse
from reglab.training.trainable import Trainable

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a job is: epochs are counted from 1, 0 is the untrained model.

    Args:
        doing: What it does instead of steps.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]
    doing: str = ""


class KeepsBest(Protocol):
    """Keeps the state of the best epoch of each job."""

    def offer(self, rows: Sequence[int], metrics: Sequence[Mapping[str, float]], epoch: int) -> None:
        """Keep the state of each of ``rows`` whose measured epoch is its best so far."""


class Recorder(pl.Callback):
    """Writes one row of metrics for each measured epoch of each job to its run; step 0 is the
    untrained model.

    Its checkpoint is that of one job; ``PackRecorder`` keeps that of a pack.

    Args:
        module: The job, or the pack of jobs.
        data: Of each job.
        settings: Of the measurement.
        trackers: Of each job; None where its run has ended before: its row is computed again, since
            how the others round may depend on the size of the pack, and recorded nowhere.
        best: Is offered what was measured.
        on_progress: Called with a job's index and its progress.
        min_epochs: Before which no regularizer stops a job.

    Attributes:
        latest: Metrics of each job's last measured epoch, by its index.
        epochs: Its number.
        stopped: Jobs that a regularizer stopped.
        ended: Jobs that train no further, though others may.
    """

    def __init__(
        self,
        module: Trainable,
        data: Sequence[DataSet],
        settings: MeasureSettings,
        trackers: Sequence[RunTracker | None],
        best: KeepsBest,
        on_progress: Callable[[int, Progress], None] | None = None,
        min_epochs: int = 0,
    ) -> None:
        self.module = module
        self.data = data
        self.settings = settings
        self.trackers = trackers
        self.best = best
        self.on_progress = on_progress
        self.min_epochs = min_epochs
        self.latest: dict[int, dict[str, float]] = {}
        self.epochs: dict[int, int] = {}
        self.stopped: set[int] = set()
        self.ended: set[int] = set()
        self.polished = 0  # the epoch after which the weights were polished
        self._resumed: dict[str, Any] | None = None
        self._system = SystemUse()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.module.begin_measuring(self.data, self.settings, self._resumed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.module.steps_done() == 0:
            self._record(trainer, 0)
        elif not self.module.inside_epoch and self._last_epoch() < trainer.current_epoch:
            self._end_epoch(trainer, trainer.current_epoch)  # saved before it was measured
        self._stop_if_over(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Finalize jobs whose loss is no longer finite, and end training where none is left."""
        if self.module.failures:
            self._end(trainer, [])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end_epoch(trainer, trainer.current_epoch + 1)

    def _end_epoch(self, trainer: pl.Trainer, epoch: int) -> None:
        last = epoch == trainer.max_epochs
        if last and self.polished != epoch and (polished := self.module.polish()):
            self.tag(**{"reglab.polish": polished})
            self.polished = epoch
        if self.module.alive() and (epoch % self.settings.every == 0 or last):
            self._record(trainer, epoch)
        if self.module.alive():
            self.module.compact()

    def _record(self, trainer: pl.Trainer, epoch: int) -> None:
        module = self.module
        gap, weights = module.measure(epoch, epoch == trainer.max_epochs)
        names, values = table(gap | weights | module.mean_terms())
        names = [sys.intern(name) for name in names]  # a checkpoint then holds each once
        metrics = self._metrics({row: dict(zip(names, values[row], strict=True)) for row in module.alive()}, epoch)
        rows, stopped = list(metrics), []
        if epoch > 0:
            module.observe(gap)
            stopped = [row for row in module.stopped(gap) if row in metrics and epoch >= self.min_epochs]
            self.stopped.update(module.job_indices[row] for row in stopped)
            self.best.offer(rows, list(metrics.values()), epoch)
        for row in rows:
            job_index = module.job_indices[row]
            self.latest[job_index], self.epochs[job_index] = metrics[row], epoch
        if trainer.is_global_zero:
            self._log(trainer, metrics, epoch)
        self._end(trainer, stopped if epoch != trainer.max_epochs else [])

    def _log(self, trainer: pl.Trainer, metrics: Mapping[int, Mapping[str, float]], epoch: int) -> None:
        recorded = list(self._open(list(metrics)))
        if recorded:
            keys = list(metrics[recorded[0][0]])
            values = [list(metrics[row].values()) for row, _ in recorded]
            log_pack([tracker for _, tracker in recorded], keys, values, epoch)
        for row, _ in recorded:
            self.show(self.module.job_indices[row], trainer)

    def _metrics(self, rows: Mapping[int, dict[str, float]], epoch: int) -> dict[int, dict[str, float]]:
        """Return the metrics of each row with what no tensor holds; a row whose loss is not finite
        fails, and is left out.
        """
        system = self._system()
        for row, measured in rows.items():
            if "objective/task" in measured:
                measured["naive_gap/loss"] = measured["val/loss"] - measured["objective/task"]
            if epoch > 0:
                measured["optimizer/lr"] = self.module.last_rate(row)
            measured.update(system)
            finite = {part: math.isfinite(measured[f"{part}/loss"]) for part in ("train", "val")}
            if not all(finite.values()):
                self.module.fail(row, self._diverged(epoch, finite["train"], row))
        return {row: rows[row] for row in self.module.alive()}

    def _diverged(self, epoch: int, train_is_finite: bool, row: int) -> Diverged:
        if epoch == 0:
            return Diverged.untrained("validation" if train_is_finite else "training")
        return Diverged(self.module.steps_done(), epoch, self.module.last_rate(row))

    def _end(self, trainer: pl.Trainer, stopped: Sequence[int]) -> None:
        """End the jobs in the rows ``stopped``, and those that failed."""
        ended: dict[int, Diverged | None] = {self.module.job_indices[row]: None for row in stopped}
        ended |= self.module.failures
        if not ended:
            return
        self.finalize(ended)
        self.ended |= set(ended)
        self.module.drop(stopped)
        self.module.failures.clear()
        self._stop_if_over(trainer)

    def log_end(self, job_index: int, metrics: Mapping[str, float], epoch: int) -> None:
        """Record what was measured once, of the weights that a job's run stands for.

        Args:
            job_index: Of the job.
            metrics: By name.
            epoch: Whose weights these are.
        """
        if (tracker := self.trackers[job_index]) is not None:
            tracker.log(metrics, epoch)

    def finalize(self, ended: Mapping[int, Diverged | None]) -> None:
        """End the runs of jobs that train no further before the others do; a job that trains alone
        is finalized behind training.

        Args:
            ended: Why, where one failed.
        """

    def _stop_if_over(self, trainer: pl.Trainer) -> None:
        trainer.should_stop |= not any(self._open(self.module.alive()))

    def _open(self, rows: Sequence[int]) -> Iterator[tuple[int, RunTracker]]:
        """Yield (row, tracker) of the rows whose jobs' runs are open."""
        for row in rows:
            job_index = self.module.job_indices[row]
            tracker = self.trackers[job_index]
            if tracker is not None and job_index not in self.ended:
                yield row, tracker

    def open_jobs(self) -> Iterator[tuple[int, RunTracker]]:
        """Yield (job index, tracker) of the jobs whose runs are open."""
        for job_index, tracker in enumerate(self.trackers):
            if tracker is not None and job_index not in self.ended:
                yield job_index, tracker

    def tag(self, **tags: str) -> None:
        """Tag the runs that are open."""
        for _, tracker in self.open_jobs():
            tracker.tag(**tags)

    def show(self, job_index: int, trainer: pl.Trainer, doing: str = "") -> None:
        """Show a job's progress.

        Args:
            job_index: Of the job.
            trainer: Which knows the last epoch.
            doing: What it does instead of steps.
        """
        if self.on_progress is not None:
            epoch = self.epochs.get(job_index, 0)
            self.on_progress(job_index, Progress(epoch, trainer.max_epochs or epoch, self._shown(job_index), doing))

    def _shown(self, job_index: int) -> dict[str, float]:
        return self.latest.get(job_index, {})

    def _last_epoch(self) -> int:
        return max(self.epochs.values(), default=0)

    def state_of(self, row: int) -> dict[str, Any]:
        """Return the state that the job in a row resumes from, alone."""
        job_index = self.module.job_indices[row]
        tracker = self.trackers[job_index]
        assert tracker is not None
        return {
            **self.module.measured_state(row),
            "latest": dict(self.latest.get(job_index, {})),
            "recorded": self.epochs.get(job_index, 0),
            "stopped": job_index in self.stopped,
            "polished": self.polished,
            "journal": tracker.journal.position,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the journal's position, and the weights that distances and updates are measured
        from.

        What the checkpoint speaks of is then on the disk: the journal is synchronized here.
        """
        for tracker in self.trackers:
            assert tracker is not None
            tracker.sync()
        return self.state_of(0)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = {**state_dict, "initial": tensors(state_dict["initial"])} if "initial" in state_dict else None
        self.latest, self.epochs = {0: dict(state_dict["latest"])}, {0: state_dict["recorded"]}
        self.polished = state_dict.get("polished", 0)
        if state_dict["stopped"]:  # it is resumed, perhaps with more epochs
            self.stopped, self.ended = {0}, {0}
            _log.warning("A regularizer stopped this run after epoch %d: it trains no further", state_dict["recorded"])
