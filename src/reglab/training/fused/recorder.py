"""After each epoch of a pack: measure all members, record them, and let those go that are done."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from reglab.errors import Diverged
from reglab.measures.numbers import table
from reglab.tracking import RunTracker, sync_runs
from reglab.tracking.pack import log_pack
from reglab.training.fused.best import Best
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.fused.module import Fused
from reglab.training.recorder import Progress
from reglab.training.system_use import SystemUse

_SHOWN = ("train/loss", "val/loss", "gap/loss")


class PackRecorder(pl.Callback):
    """Does for each member what ``Recorder`` does for one job, with one measurement and one transfer for all.

    trackers: of each job. on_end: called with a job's number, and the reason where it failed, as soon as it has ended
    before the others: by early stopping or because it diverged.
    """

    def __init__(
        self,
        best: Best,
        trackers: list[RunTracker],
        on_progress: Callable[[int, Progress], None] | None,
        on_end: Callable[[Fused, dict[int, Diverged | None]], None],
    ) -> None:
        self.best = best
        self.trackers = trackers
        self.on_progress = on_progress
        self.on_end = on_end
        self.latest: dict[int, dict[str, float]] = {}
        self.epochs: dict[int, int] = {}
        self.ended: set[int] = set()
        self.measurement: PackMeasurement | None = None
        self._resumed: dict[str, Any] | None = None
        self._system = SystemUse()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Fused)
        pack = pl_module.pack
        jobs = pack.experiments
        device = pack.stack.device
        self.measurement = PackMeasurement([job.data for job in jobs], jobs[0].measure, device, pack.dtype)
        self.measurement.begin(pack, self._resumed)
        if pack.done() == 0:
            self._record(trainer, pl_module, 0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Let members go whose loss is no longer finite, and end training where none is left."""
        assert isinstance(pl_module, Fused)
        if pl_module.failures:
            self._let_go(trainer, pl_module, [])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Fused)
        epoch = trainer.current_epoch + 1
        every = pl_module.pack.experiments[0].measure.every
        if pl_module.alive() and (epoch % every == 0 or epoch == trainer.max_epochs):
            self._record(trainer, pl_module, epoch)
        if pl_module.alive() and self.measurement is not None:
            kept = pl_module.compact()
            if kept:
                self.measurement.keep(kept)

    def _record(self, trainer: pl.Trainer, module: Fused, epoch: int) -> None:
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
            self.best.offer(pack, rows, [metrics[row] for row in rows], epoch)
        for row in rows:
            place = pack.places[row]
            self.latest[place], self.epochs[place] = metrics[row], epoch
        if rows:
            keys = list(metrics[rows[0]])
            log_pack(
                [self.trackers[pack.places[row]] for row in rows],
                keys,
                [list(metrics[r].values()) for r in rows],
                epoch,
            )
        self._show(trainer, module, rows, epoch)
        self._let_go(trainer, module, stopped if epoch != trainer.max_epochs else [])

    def _metrics(self, module: Fused, found: Mapping[str, Tensor], epoch: int) -> dict[int, dict[str, float]]:
        """Return the metrics of each living row of the stack; one whose loss is not finite is taken out."""
        names, rows_of = table(found)
        system = self._system()
        metrics = {row: dict(zip(names, rows_of[row], strict=True)) for row in module.alive()}
        for row, measured in metrics.items():
            if "objective/task" in measured:
                measured["naive_gap/loss"] = measured["val/loss"] - measured["objective/task"]
            if epoch > 0:
                measured["optimizer/lr"] = float(module.rates[-1, module.pack.places[row]])
            measured.update(system)
            if epoch > 0 and not math.isfinite(measured["train/loss"] + measured["val/loss"]):
                module.fail(row, module.pack.done(), epoch)
        return {row: metrics[row] for row in module.alive()}

    def _show(self, trainer: pl.Trainer, module: Fused, rows: list[int], epoch: int) -> None:
        if self.on_progress is None:
            return
        for row in rows:
            place = module.pack.places[row]
            shown = {key: self.latest[place][key] for key in _SHOWN}
            self.on_progress(place, Progress(epoch, trainer.max_epochs or epoch, shown))

    def _let_go(self, trainer: pl.Trainer, module: Fused, stopped: list[int]) -> None:
        """End the runs of members that stopped or failed; their rows are dead from now on."""
        ended: dict[int, Diverged | None] = {module.pack.places[row]: None for row in stopped}
        ended |= module.failures
        if not ended:
            return
        self.on_end(module, ended)
        self.ended |= set(ended)
        module.dead |= set(stopped)
        module.failures.clear()
        trainer.should_stop |= not module.alive()

    def state_dict(self) -> dict[str, Any]:
        """Return what measuring and judging go on from. The journals are synchronized here, as for one job."""
        measured = self.measurement.state() if self.measurement else None
        journals = sync_runs([tracker for place, tracker in enumerate(self.trackers) if place not in self.ended])
        return {"measured": measured, "best": self.best.state_dict(), "journals": journals}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = state_dict["measured"]
        self.best.load_state_dict(state_dict["best"])
