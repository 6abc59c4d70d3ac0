"""Recorder of a pack: its checkpoint, and the members that end before the others."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from reglab.core.errors import Diverged
from reglab.tracking import RunTracker, sync_runs
from reglab.training.fused.best import Best
from reglab.training.fused.module import PackModule
from reglab.training.recorder import Progress, Recorder

_SHOWN = ("train/loss", "val/loss", "gap/loss")


class PackRecorder(Recorder):
    """Does for each member what ``Recorder`` does for one job, with one measurement and one
    transfer for all.

    Args:
        module: The pack's.
        best: The best epochs of its jobs.
        trackers: As for ``Recorder``.
        on_progress: As for ``Recorder``.
        on_end: Called with the indices of jobs, and the reason where one failed, as soon as they
            have ended before the others: by early stopping or because they diverged.
    """

    def __init__(
        self,
        module: PackModule,
        best: Best,
        trackers: Sequence[RunTracker | None],
        on_progress: Callable[[int, Progress], None] | None,
        on_end: Callable[[Mapping[int, Diverged | None]], None],
    ) -> None:
        jobs = module.pack.experiments
        data, least = [job.data for job in jobs], jobs[0].recipe.min_epochs
        super().__init__(module, data, jobs[0].measure, trackers, best, on_progress, least)
        self._kept, self._pack_module, self._on_end = best, module, on_end

    def finalize(self, ended: Mapping[int, Diverged | None]) -> None:
        self._on_end(ended)

    def recorded(self) -> int:
        """Return the last epoch that any of the runs has recorded, which may lie behind the
        checkpoint.
        """
        return max((tracker.journal.top for _, tracker in self.open_jobs()), default=0)

    def show_activity(self, trainer: pl.Trainer, doing: str) -> None:
        """Show an activity, such as compiling, as the jobs' progress."""
        for job_index, _ in self.open_jobs():
            self.show(job_index, trainer, doing)

    def _shown(self, job_index: int) -> dict[str, float]:
        return {key: self.latest[job_index][key] for key in _SHOWN if job_index in self.latest}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that measuring and early stopping resume from.

        The journals are synchronized here, as for one job.
        """
        return {
            "measured": self._pack_module.measurement.state(),
            "best": self._kept.state_dict(),
            "journals": sync_runs([tracker for _, tracker in self.open_jobs()]),
            "latest": {job_index: dict(metrics) for job_index, metrics in self.latest.items()},
            "epochs": dict(self.epochs),
            "ended": sorted(self.ended),
            "stopped": sorted(self.stopped),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = state_dict["measured"]
        self._kept.load_state_dict(state_dict["best"])
        self.latest, self.epochs = dict(state_dict["latest"]), dict(state_dict["epochs"])
        self.ended, self.stopped = set(state_dict["ended"]), set(state_dict["stopped"])
