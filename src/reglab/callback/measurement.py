"""Measure gap and weights of a user's module on rows of the user's DataLoaders."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import RunningStage
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from reglab.analysis.per_example_file import Examples
from reglab.callback.batch_evaluation import Asked, BatchEvaluation, evaluate_batches
from reglab.callback.dataloader_rows import Unpack, is_mapped, rows_of_batches
from reglab.callback.fixed_batches import FixedBatches
from reglab.callback.measured_sides import Sides, gap_of_batches
from reglab.distributed.parameters import LocalParameters, as_local_parameters
from reglab.measures import MeasureSettings, probe_size
from reglab.regularizers import Cocktail
from reglab.training.measurement import Measurement

_LONGEST = 100_000  # rows that are read of a stream which may have no end


class LoaderMeasurement(Measurement):
    """Measures a user's module on a probe of the training rows and on all validation rows.

    By a task alone, rows that fit in memory are kept on the module's device as one tensor, and
    ``module(inputs)`` is computed of many at a time. By a loss of the user's, or where rows take
    more memory, the module is evaluated on one batch after the other (see ``FixedBatches``). No
    random state is moved by either.

    Args:
        trainer: During a fit.
        module: That it trains.
        asked: What is measured.
        settings: Of weights and intervals.
        memory: Bytes that the rows of a side may take, to be kept.

    Attributes:
        missing: Why there is no gap to measure; empty if there is one.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        asked: Asked,
        settings: MeasureSettings,
        memory: float,
    ) -> None:
        loaders = loaders_of(trainer)
        self.missing = loaders.missing
        self._asked = asked
        self._batch_evaluations: tuple[BatchEvaluation, BatchEvaluation] | None = None
        rows = None
        if not self.missing:
            self._sides = read_sides(trainer, module, loaders, asked.unpack if asked.loss is None else None, memory)
            rows = self._sides.gap_rows(asked)
        if rows is None:
            why = self.missing or "rows are measured batch by batch here, by a loss of your own or beyond memory_mb"
            settings.check_needs(dict.fromkeys(("examples", "outputs", "function"), why))
        super().__init__(rows, settings, trainer.world_size)

    def gap(
        self, model: nn.Module | LocalParameters, cocktail: Cocktail, epoch: int = 1, last: bool = True
    ) -> dict[str, Tensor]:
        if self.missing or self.rows is not None:
            return super().gap(model, cocktail, epoch, last)
        parameters = as_local_parameters(model)
        parameters.reshard()
        with cocktail.evaluating(parameters.hook_target):
            train, val = (evaluate_batches(parameters.model, side, self._asked) for side in self._sides.both)
            parameters.reshard()
        self._batch_evaluations = train, val
        return gap_of_batches(train, val, self._asked, self._sides.left, self.settings)

    def examples(self, module: pl.LightningModule) -> Examples | None:
        """Return the per-example results of the last measured gap; None without one, or where the
        loss is one of a whole batch.
        """
        dtype = next(module.parameters()).dtype
        if self.evaluations is not None and self._asked.task is not None:
            return self._sides.examples(self.evaluations, self._asked.task, dtype)
        if self._batch_evaluations is None:
            return None
        return self._sides.examples_of_batches(self._batch_evaluations, self._asked, dtype)

    def both(
        self, trainer: pl.Trainer, parameters: LocalParameters, cocktail: Cocktail, epoch: int = 1, last: bool = True
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gap, if there is one to measure, and what the other measures say."""
        with validating(trainer), trainer.precision_plugin.val_step_context():
            gap = self.gap(parameters, cocktail, epoch, last)
        return gap, self.weights(parameters, cocktail, epoch, last)


class Loaders(NamedTuple):
    """The loaders of a fit.

    Args:
        train_batches, val_batches: How many batches all ranks take in an epoch: the loader's
            number, or less by limits; infinite for a stream that does not know its length.
        missing: Why no gap can be measured on them; empty if one can.
    """

    train: Any
    val: Any
    train_batches: float
    val_batches: float
    missing: str


def loaders_of(trainer: pl.Trainer) -> Loaders:
    """Return the loaders that a gap is measured on.

    Args:
        trainer: During a fit.
    """
    train, val = _only(trainer.train_dataloader), _only(_validation(trainer))
    return Loaders(
        train,
        val,
        trainer.num_training_batches * _ranks(trainer, train),
        sum(trainer.num_val_batches) * _ranks(trainer, val),
        _what_is_missing(train, val),
    )


def _ranks(trainer: pl.Trainer, loader: Any) -> int:
    """Return how many ranks share the rows that are read; of a stream each reads its own."""
    return trainer.world_size if is_mapped(loader) else 1


def read_sides(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    loaders: Loaders,
    unpack: Unpack | None,
    memory: float,
    probe_rows: int | None = None,
) -> Sides:
    """Read the validation rows, and a probe of the training rows whose size follows from theirs.

    Args:
        trainer: During a fit.
        module: Whose hooks change batches.
        loaders: Of the fit.
        unpack: Gives inputs and targets of a batch; None keeps it whole.
        memory: Bytes that the rows of a side may take, to be kept.
        probe_rows: How many training rows are wanted; None for the default.
    """
    ready = partial(_as_in_training, trainer, module)
    with validating(trainer):
        of_val = FixedBatches(
            loaders.val, ready, unpack, *_of_validation(loaders.val, loaders.val_batches), memory=memory
        )
        wanted = partial(probe_size, val_rows=of_val.rows, wanted=probe_rows)
        probe = FixedBatches(loaders.train, ready, unpack, wanted, loaders.train_batches, memory)
    whole = probe.rows < wanted(probe.available)  # a stream that ended
    return Sides(probe, of_val, probe.rows if whole else probe.available)


def _of_validation(val: Any, batches: float) -> tuple[Callable[[int], int], float]:
    """Return which validation rows are read, as ``numbered_rows`` takes it.

    As many as the trainer's batches hold; of a stream that may have no end, the first ones.
    """
    if batches != math.inf:
        mapped = is_mapped(val)
        return lambda rows: min(rows, rows_of_batches(val, int(batches))) if mapped else rows, batches
    rank_zero_warn(
        f"the validation loader does not know its length: its first {_LONGEST:,} rows are measured, if it has so many; "
        "Trainer(limit_val_batches=...) takes another number",
        category=UserWarning,
    )
    return lambda rows: min(rows, _LONGEST), math.inf


@contextmanager
def validating(trainer: pl.Trainer) -> Iterator[None]:
    """A context in which the module sees ``trainer.validating``: augmentation in its batch hooks
    asks for it.
    """
    stage = trainer.state.stage
    trainer.state.stage = RunningStage.VALIDATING
    try:
        yield
    finally:
        trainer.state.stage = stage


def _validation(trainer: pl.Trainer) -> Any:
    if trainer.val_dataloaders is None:
        with validating(trainer):
            # Lightning does so before the first validation, which may be epochs away.
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
    return trainer.val_dataloaders


def _as_in_training(trainer: pl.Trainer, module: pl.LightningModule, batch: Any) -> Any:
    """Return ``batch`` as Lightning hands it to ``training_step``: converted, through the module's
    hooks, moved.
    """
    batch = trainer.precision_plugin.convert_input(batch)
    batch = module._on_before_batch_transfer(batch)
    return trainer.strategy.batch_to_device(batch)


def _only(loaders: Any) -> Any:
    return loaders[0] if isinstance(loaders, (list, tuple)) and len(loaders) == 1 else loaders


def _what_is_missing(train: Any, val: Any) -> str:
    for what, loader in (("training", train), ("validation", val)):
        if isinstance(loader, (list, tuple, dict)) and len(loader) > 0:
            return f"there are {len(loader)} {what} loaders and it takes one"
    if val is None or isinstance(val, (list, tuple, dict)):
        return "that takes a validation loader, a validation_step in the module and limit_val_batches above 0"
    return ""
