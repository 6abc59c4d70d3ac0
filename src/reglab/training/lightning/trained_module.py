"""A user's LightningModule as what is measured, recorded and saved (``Trainable``)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from reglab.analysis.per_example_file import Examples
from reglab.callback.batch_evaluation import Asked
from reglab.callback.dataloader_rows import inputs_and_targets
from reglab.callback.fixed_batches import MEMORY
from reglab.callback.measurement import LoaderMeasurement
from reglab.callback.regularize import Regularize
from reglab.core.errors import Diverged
from reglab.core.metric_direction import LOWER
from reglab.data import DataSet
from reglab.distributed.parameters import LocalParameters
from reglab.measures import MeasureSettings, score_name
from reglab.tasks import Task, task_named
from reglab.training.lightning.step_measurement import StepMeasurement
from reglab.training.trainable import Tensors

MODEL, COCKTAIL = "model.", "cocktail."  # as in the checkpoints of every other job


def joint_state(module: Mapping[str, Any], cocktail: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states of a module and of the regularizers as one.

    Args:
        module: Its ``state_dict``.
        cocktail: Theirs.
    """
    return {MODEL + name: value for name, value in module.items()} | {
        COCKTAIL + name: value for name, value in cocktail.items()
    }


def part_of(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return one of the two states in a joint one.

    Args:
        state: Of ``joint_state``.
        prefix: ``MODEL`` or ``COCKTAIL``.
    """
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


class TrainedModule:
    """The module of a job in Lightning's own loop.

    Args:
        module: A LightningModule.
        regularize: Its callback, which measures nothing itself.
        task: What its outputs are; None: its own ``validation_step`` is measured.
        description: What ``reglab.load`` builds the module from again.
    """

    sharded = False
    job_indices: Sequence[int] = (0,)

    def __init__(
        self,
        module: pl.LightningModule,
        regularize: "Regularizing",
        task: Task | str | None,
        description: Mapping[str, Any],
    ) -> None:
        self.module, self.regularize, self.task = module, regularize, None if task is None else task_named(task)
        self.cocktail = regularize.cocktail
        self._description = description
        self.failures: dict[int, Diverged] = {}
        self.interrupted: int | None = None
        self.measurement: LoaderMeasurement | StepMeasurement | None = None

    @property
    def hparams(self) -> Mapping[str, Any]:
        """What ``reglab.load`` builds the module from again."""
        return self._description

    @property
    def inside_epoch(self) -> bool:
        return False  # it is saved between epochs

    def steps_done(self) -> int:
        return int(self.module.trainer.global_step)

    def alive(self) -> list[int]:
        return [0]

    def begin_measuring(self, data: Sequence[DataSet], settings: MeasureSettings, state: Any) -> None:
        trainer, module = self.module.trainer, self.module
        if self.task is None:
            self.measurement = StepMeasurement(trainer, module, settings)
        else:
            asked = Asked(self.task, inputs_and_targets, None, {})
            self.measurement = LoaderMeasurement(trainer, module, asked, settings, MEMORY)
        self.measurement.begin(module, state)

    def measure(self, epoch: int = 1, last: bool = True) -> tuple[Tensors, Tensors]:
        measurement, module, cocktail = self.measurement, self.module, self.cocktail
        if isinstance(measurement, LoaderMeasurement):
            return measurement.both(module.trainer, LocalParameters(module), cocktail, epoch, last)
        assert measurement is not None
        logger: Any = module.trainer.logger  # which steps may use by themselves
        logged = dict(logger.values)
        gap = {name: value.to(module.device) for name, value in measurement.gap(module, cocktail).items()}
        logger.values = logged
        return gap, measurement.weights(module, cocktail, epoch, last)

    def measure_end(self) -> Tensors:
        """Return what is measured once, of the weights as they are."""
        return {} if self.measurement is None else self.measurement.at_end(self.module, self.cocktail)

    def examples(self) -> Examples | None:
        """Return what the last measurement says of each example, or of each batch."""
        if isinstance(self.measurement, LoaderMeasurement):
            return self.measurement.examples(self.module)
        return self.measurement.examples() if self.measurement else None

    @property
    def score(self) -> str:
        """The name of the score that stands beside the loss; empty where there is none."""
        return score_name(self.task) if self.task else getattr(self.measurement, "score", "")

    @property
    def tags(self) -> dict[str, str]:
        """What a report is to know of the measured values."""
        lower = ",".join(getattr(self.measurement, "lower", ()))
        return {"reglab.score": self.score or "loss", **({LOWER: lower} if lower else {})}

    def measured_state(self, row: int) -> dict[str, Any]:
        assert self.measurement is not None
        return self.measurement.state(self.module)

    def mean_terms(self) -> Tensors:
        return self.regularize.take_terms()

    def last_rate(self, row: int) -> float:
        return float(self.module.trainer.optimizers[0].param_groups[0]["lr"])

    def stopped(self, metrics: Mapping[str, Tensor]) -> list[int]:
        stop = bool(self.cocktail.stop(metrics))
        return [0] if self.module.trainer.strategy.reduce_boolean_decision(stop, all=False) else []

    def observe(self, metrics: Mapping[str, Tensor]) -> None:
        """Leave the module's schedulers to Lightning."""

    def fail(self, row: int, error: Diverged) -> None:
        raise error

    def drop(self, rows: Sequence[int]) -> None: ...

    def compact(self) -> None: ...

    def polish(self) -> str:
        return ""

    def snapshot(self) -> dict[str, Tensor]:
        """Return a copy of the module's state and of the regularizers', as a checkpoint holds them."""
        state = joint_state(self.module.state_dict(), self.cocktail.state_dict())
        return {name: value.detach().clone() for name, value in state.items()}

    def whole(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a state with whole tensors, which they are."""
        return state

    def local_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this rank's part of a state, which is all of it, on the module's device."""
        return {name: value.to(self.module.device) for name, value in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load a snapshot."""
        with torch.no_grad():
            self.module.load_state_dict(part_of(state, MODEL))
            self.cocktail.load_state_dict(part_of(state, COCKTAIL))


class Regularizing(Regularize):
    """``Regularize`` without its measurement: the job's recorder measures, as in any other job."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._objective is not None:
            self._objective.expected = False  # a hook may have skipped the last batch

    def take_terms(self) -> dict[str, Tensor]:
        """Return the mean of each term since the last call."""
        return self._terms()
