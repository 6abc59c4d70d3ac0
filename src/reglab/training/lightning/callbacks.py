"""Callbacks of a job in Lightning's own loop: what it records, and what it resumes from."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, distributed

from reglab.analysis.per_example_file import Examples
from reglab.core import signals
from reglab.core.errors import UserError, nearest
from reglab.measures import to_floats
from reglab.training.best_epoch import final_metrics
from reglab.training.checkpoint_files import Checkpoint
from reglab.training.checkpoints import AtomicCheckpoints, Checkpoints
from reglab.training.lightning.metric_state import metric_states, set_metric_states
from reglab.training.lightning.random_state import random_state, set_random_state
from reglab.training.lightning.trained_module import COCKTAIL, MODEL, TrainedModule, joint_state, part_of
from reglab.training.logged import LoggedRecorder
from reglab.training.loop_position import drop_loop_state, position_of, resume_from

_RANDOM, _LOOPS, _METRICS = "random_state", "position", "metrics"


class ModuleRecorder(LoggedRecorder):
    """Records what ``Recorder`` does, and what module and callbacks log, as ``logged/<name>``.

    It measures once the loaders are set up, and behind the module's own ``on_train_epoch_end``:
    ``Package.late`` makes it one of the callbacks that Lightning calls there.
    """

    module: TrainedModule

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None: ...

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin()
        super().on_train_start(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the last epoch where training ended before its time, as by ``max_steps``."""
        if self._last_epoch() < trainer.current_epoch:
            self._record(trainer, trainer.current_epoch)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure where nothing was left to train: a run that died as it ended is resumed."""
        pl_module.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU
        if self.module.measurement is None:
            self.begin()
            self.module.measure()

    def begin(self) -> None:
        """Begin to measure, once the loaders are set up."""
        self.module.begin_measuring(self.data, self.settings, self._resumed)

    def _metrics(self, rows: Mapping[int, dict[str, float]], epoch: int) -> dict[int, dict[str, float]]:
        if self.settings.monitor not in rows[0]:
            measured = sorted(key for key in rows[0] if key.startswith("val/") and not key.endswith("_se"))
            raise UserError(
                f"measure.monitor={self.settings.monitor} is not among what is measured ({', '.join(measured)}); "
                f"{nearest(self.settings.monitor, measured)}"
            )
        return super()._metrics(rows, epoch)


class ModuleCheckpoints(Checkpoints):
    """Saves between epochs, before the next begins, with the states of the generators.

    All that Lightning does at the end of an epoch, such as a step of a scheduler, is then done. An
    epoch that a signal interrupts begins anew when the run is resumed.
    """

    _job: TrainedModule
    _trains = False  # since this process began
    _restored: Mapping[str, Any] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        if self._restored is not None:
            resume_from(trainer, self._restored[_LOOPS])

    @property
    def state_key(self) -> str:
        return Checkpoints.__qualname__

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.install_handlers()
        self._begun = trainer.current_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self._begun:  # nothing is done yet
            if self._restored is not None:
                of_ranks = self._restored[_RANDOM]
                set_random_state(of_ranks[trainer.global_rank if len(of_ranks) == trainer.world_size else 0])
                set_metric_states(pl_module, self._restored[_METRICS])  # which on_train_start may have reset
            self._trains = True
            return
        number = self._signal(trainer)
        if number or trainer.strategy.broadcast(self.is_due()):
            self.write(trainer)
        if number:
            self.stop(number)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if number := self._signal(trainer):
            self.stop(number)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None: ...

    def _signal(self, trainer: pl.Trainer) -> int | None:
        number = signals.stop_signal()
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(bool(number), all=False):
            return number or signals.HANDLED[0]
        return number

    def state_dict(self) -> dict[str, Any]:
        trainer = self._job.module.trainer
        kept = None if self._trains or self._restored is None else self._restored[_RANDOM]
        of_ranks: list[Any] = [random_state()] * trainer.world_size
        if kept is None and trainer.world_size > 1:
            distributed.all_gather_object(of_ranks, random_state())
        return {**super().state_dict(), _RANDOM: kept or of_ranks, _LOOPS: position_of(trainer),
                _METRICS: metric_states(self._job.module)}  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._restored = {key: state_dict[key] for key in (_RANDOM, _LOOPS, _METRICS)}


class ModuleFinalizer(pl.Callback):
    """Loads the weights that the run stands for: the best epoch's where a member may stop early,
    else the last.

    Attributes:
        final: Their metrics.
        examples: What they reach on each example; None where that is not known.
    """

    def __init__(self, module: TrainedModule, recorder: ModuleRecorder, checkpoints: ModuleCheckpoints) -> None:
        self.module, self.recorder, self.checkpoints = module, recorder, checkpoints
        self.final: dict[str, float] = {}
        self.examples: Examples | None = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        best, metrics = self.checkpoints.best_weights, None
        if self.module.cocktail.stops and best is not None:
            self.module.restore(best)
            metrics = self.checkpoints.record.metrics[0]
            self.module.measure()  # again, for its examples
        latest = self.recorder.latest.get(0, {})
        self.final = final_metrics(latest, trainer.current_epoch, metrics, self.checkpoints.best_epoch)
        at_end = to_floats(self.module.measure_end())
        if at_end and trainer.is_global_zero:
            self.recorder.log_end(0, at_end, int(self.final["epoch"]))
        self.final |= at_end
        if trainer.is_global_zero:
            self.examples = self.module.examples()


class ModuleFiles(AtomicCheckpoints):
    """Checkpoints in the form of every other job's, which hold plain data alone.

    What ``save_hyperparameters`` keeps, networks and functions perhaps, is replaced by the config
    from which the module is built again.

    Args:
        module: The job's.
        resume: What ``load_checkpoint`` returns.
    """

    def __init__(self, module: TrainedModule, resume: Checkpoint | None = None) -> None:
        super().__init__(resume)
        self._module = module

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        content = {key: value for key, value in checkpoint.items() if not key.startswith(_HYPER_PARAMETERS)}
        content["hyper_parameters"] = dict(self._module.hparams)
        content["state_dict"] = joint_state(checkpoint["state_dict"], self._module.cocktail.state_dict())
        super().save_checkpoint(content, path, storage_options)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        content = super().load_checkpoint(path, map_location, weights_only)
        drop_loop_state(content)
        state: Mapping[str, Tensor] = content["state_dict"]
        return {**content, "state_dict": part_of(state, MODEL), COCKTAIL: part_of(state, COCKTAIL)}


# Under which Lightning keeps what ``save_hyperparameters`` was given.
_HYPER_PARAMETERS = ("hyper_parameters", "hparams_", "datamodule_hyper_parameters", "datamodule_hparams_")
