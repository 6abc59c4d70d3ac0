"""Lightning callback that measures, records and shows each epoch, and stops early."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from reglab.core.errors import Diverged
from reglab.data import DataSet
from reglab.measures import MeasureSettings, to_floats
from reglab.tracking import RunTracker
from reglab.training.checkpoint_constants import tensors
from reglab.training.checkpoints import Checkpoints
from reglab.training.measurement import Measurement
from reglab.training.polish import polish
from reglab.training.solo import Solo
from reglab.training.system_use import SystemUse

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


class Recorder(pl.Callback):
    """Writes one row of metrics for each measured epoch to ``tracker``; step 0 is the untrained
    model.
    """

    def __init__(
        self,
        data: DataSet,
        settings: MeasureSettings,
        tracker: RunTracker,
        checkpoints: Checkpoints,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.data = data
        self.settings = settings
        self.tracker = tracker
        self.checkpoints = checkpoints
        self.on_progress = on_progress
        self.latest: dict[str, float] = {}
        self.recorded = 0  # the epoch up to which everything is recorded
        self.stopped = False  # by a member of the cocktail
        self.polished = 0  # the epoch after which the weights were polished
        self.measurement: Measurement | None = None
        self._resumed: dict[str, Any] | None = None
        self._module: Solo | None = None
        self._system = SystemUse()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Solo)
        dtype = next(iter(pl_module.local_parameters.weights.values())).dtype
        self._module, ranks = pl_module, trainer.world_size
        self.measurement = Measurement(self.data, self.settings, pl_module.device, dtype, ranks)
        self.measurement.begin(pl_module.local_parameters, self._resumed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Solo)
        if self.stopped:  # it is resumed, perhaps with more epochs
            _log.warning("A regularizer stopped this run after epoch %d: it trains no further", self.recorded)
            trainer.should_stop = True
        if int(pl_module.cocktail.keys.step) == 0:
            self._record(trainer, pl_module, 0)
        elif not pl_module.inside_epoch and self.recorded < trainer.current_epoch:
            self._end_epoch(trainer, pl_module, trainer.current_epoch)  # saved before it was measured

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Solo)
        self._end_epoch(trainer, pl_module, trainer.current_epoch + 1)

    def _end_epoch(self, trainer: pl.Trainer, module: Solo, epoch: int) -> None:
        if module.engine.polish and epoch == trainer.max_epochs and self.polished != epoch:
            result = polish(module, self.data.train, self.data.task, module.engine.polish)
            self.tracker.tag(**{"reglab.polish": str(result)})
            self.polished = epoch
        if epoch % self.settings.every == 0 or epoch == trainer.max_epochs:
            self._record(trainer, module, epoch)
        self.recorded = epoch

    def _record(self, trainer: pl.Trainer, module: Solo, epoch: int) -> None:
        assert self.measurement is not None
        with trainer.precision_plugin.val_step_context():
            gap = self.measurement.gap(module.local_parameters, module.cocktail)
        metrics = to_floats(
            gap | self.measurement.weights(module.local_parameters, module.cocktail) | self._terms(module)
        )
        if "objective/task" in metrics:
            metrics["naive_gap/loss"] = metrics["val/loss"] - metrics["objective/task"]
        if epoch > 0:
            metrics["optimizer/lr"] = module.last_lr
        metrics |= self._system()
        self.latest = metrics
        if epoch > 0 and not math.isfinite(metrics["train/loss"] + metrics["val/loss"]):
            raise Diverged(int(module.cocktail.keys.step), epoch, module.last_lr)
        if epoch > 0:
            stop = bool(module.cocktail.stop(gap))
            self.stopped = trainer.strategy.reduce_boolean_decision(stop, all=False)
            trainer.should_stop |= self.stopped
            self.checkpoints.offer(trainer, module, metrics, epoch)
        if trainer.is_global_zero:
            self.tracker.log(metrics, epoch)
            if self.on_progress:
                self.on_progress(Progress(epoch, trainer.max_epochs or epoch, metrics))

    def state_dict(self) -> dict[str, Any]:
        """Return the journal's position, and the weights that distances and updates are measured
        from.

        What the checkpoint speaks of is then on the disk: the journal is synchronized here.
        """
        measured = self.measurement.state(self._module.local_parameters) if self.measurement and self._module else {}
        progress = {"latest": dict(self.latest), "recorded": self.recorded, "stopped": self.stopped}
        return {**measured, **progress, "polished": self.polished, "journal": self.tracker.sync()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = {**state_dict, "initial": tensors(state_dict["initial"])} if "initial" in state_dict else None
        self.latest, self.stopped = dict(state_dict["latest"]), state_dict["stopped"]
        self.recorded = state_dict["recorded"]
        self.polished = state_dict.get("polished", 0)

    def _terms(self, module: Solo) -> dict[str, torch.Tensor]:
        """Return each term's mean over the examples trained on since the last record, and start
        anew.
        """
        return {f"objective/{name}": mean for name, mean in module.terms.take().items()}
