"""Measure gap and weights of a user's module on rows of the user's DataLoaders."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import RunningStage
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from reglab.analysis.per_example_file import Examples
from reglab.callback.dataloader_rows import Rows, Unpack, numbered_rows, rows_of_batches
from reglab.measures import MeasureSettings, probe_size
from reglab.measures.evaluate import Evaluation, evaluation_of
from reglab.regularizers import Cocktail
from reglab.tasks import Task, task_named
from reglab.training import measured_rows
from reglab.training.measured_rows import GapRows, GapSide
from reglab.training.measurement import Measurement
from reglab.training.per_example import MeasuredRows, SideRows, constant_predictor, examples

_LONGEST = 100_000  # rows that are read of a stream which may have no end


class LoaderMeasurement(Measurement):
    """Measures ``module(inputs)`` on a probe of the training rows and on all validation rows.

    Rows are read once, when this is built, and no random state is moved by it; they stay on the
    module's device.

    Attributes:
        missing: Why there is no gap to measure; empty if there is one.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        task: Task | str,
        unpack: Unpack,
        settings: MeasureSettings,
    ) -> None:
        train, val = _only(trainer.train_dataloader), _only(_validation(trainer))
        limits = _Batches(
            trainer.num_training_batches * _ranks(trainer, train), sum(trainer.num_val_batches) * _ranks(trainer, val)
        )
        self.missing = _what_is_missing(train, val)
        rows = None
        if not self.missing:
            with isolate_rng(), validating(trainer):
                ready = partial(_ready, trainer, module, unpack)
                self._read = _read_rows(train, val, limits, ready, task)
            rows = self._read.gap_rows(task)
        super().__init__(rows, settings, trainer.world_size)

    def examples(self, module: pl.LightningModule) -> Examples | None:
        """Return the per-example results of the last measured gap; None without one."""
        if self.evaluations is None or self.rows is None:
            return None
        outputs, targets = self.evaluations[1].outputs, self.evaluations[1].targets
        task = task_named(self.rows.task)
        best_constant = constant_predictor(self._read.probe[1], len(targets), task.width(outputs), task)
        rows = self._read.measured_rows(evaluation_of(best_constant, targets, task))
        return examples(rows, self.evaluations, task, next(module.parameters()).dtype)

    def all(self, trainer: pl.Trainer, module: pl.LightningModule, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the gap, if there is one to measure, and the weight statistics."""
        with validating(trainer), trainer.precision_plugin.val_step_context():
            gap = self.gap(module, cocktail)
        return gap | self.weights(module, cocktail)


class _LoaderRows(NamedTuple):
    """Rows read from loaders, with their numbers in the datasets.

    Args:
        train_rows: How many the training part has.
    """

    probe: Rows
    val: Rows
    probe_index: Tensor
    val_index: Tensor
    train_rows: int

    def gap_rows(self, task: Task | str) -> GapRows:
        """Return what a gap is measured on."""
        left = 1 - len(self.probe[0]) / self.train_rows
        probe, val = ([measured_rows.Rows(values) for values in part] for part in (self.probe, self.val))
        return GapRows(task, GapSide(probe[0], probe[1], left=left), GapSide(val[0], val[1]))

    def measured_rows(self, constant: Evaluation) -> MeasuredRows:
        """Return what the examples are made from.

        Args:
            constant: Evaluation of the constant predictor on the validation rows.
        """
        sides = SideRows(self.probe_index.numpy()), SideRows(self.val_index.numpy())
        return MeasuredRows(*sides, constant, self.train_rows)


class _Batches(NamedTuple):
    """How many batches all ranks take in an epoch: the loader's number, or less by limits.

    It is infinite for a stream that does not know its length.
    """

    train: float
    val: float


def _ranks(trainer: pl.Trainer, loader: Any) -> int:
    """Return how many ranks share the rows that are read; of a stream each reads its own."""
    return trainer.world_size if _is_mapped(loader) else 1


def _is_mapped(loader: Any) -> bool:
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def _ready(trainer: pl.Trainer, module: pl.LightningModule, unpack: Unpack, batch: Any) -> Rows:
    return unpack(_as_in_training(trainer, module, batch))


def _read_rows(train: Any, val: Any, limits: _Batches, ready: Callable[[Any], Rows], task: Task | str) -> _LoaderRows:
    """Read the validation rows, and a probe of the training rows whose size follows from theirs."""
    available = 1  # training rows; unknown for a stream
    val_rows, val_index = numbered_rows(val, ready, *_of_validation(val, limits.val))

    def wanted(rows: int) -> int:
        nonlocal available
        available = rows
        return probe_size(rows, len(val_rows[0]))

    probe, index = numbered_rows(train, ready, wanted, limits.train)
    if task_named(task).integers:
        probe, val_rows = _wide_labels(probe), _wide_labels(val_rows)
    whole = len(probe[0]) < probe_size(available, len(val_rows[0]))  # a stream that ended
    return _LoaderRows(probe, val_rows, index, val_index, len(probe[0]) if whole else available)


def _of_validation(val: Any, batches: float) -> tuple[Callable[[int], int], float]:
    """Return which validation rows are read, as ``numbered_rows`` takes it.

    As many as the trainer's batches hold; of a stream that may have no end, the first ones.
    """
    if batches != math.inf:
        mapped = _is_mapped(val)
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


def _wide_labels(rows: Rows) -> Rows:
    """Return rows with labels in int64: losses take no narrower ones."""
    return rows[0], rows[1] if rows[1].is_floating_point() else rows[1].long()
