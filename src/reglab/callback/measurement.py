"""Measure gap and weights of a user's module on rows of the user's DataLoaders."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import RunningStage
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from reglab.analysis.per_example_file import Examples
from reglab.callback.dataloader_rows import Rows, Unpack, numbered_rows
from reglab.measures import MeasureSettings, Task, probe_size
from reglab.measures.evaluate import evaluation_of
from reglab.regularizers import Cocktail
from reglab.training.measurement import Measurement
from reglab.training.per_example import MeasuredRows, SideRows, constant_predictor, examples


class LoaderMeasurement(Measurement):
    """Measures ``module(inputs)`` on a probe of the training rows and on all validation rows.

    Rows are read once, when this is built, and no random state is moved by it; they stay on the
    module's device.

    Attributes:
        missing: Why there is no gap to measure; empty if there is one.
    """

    def __init__(
        self, trainer: pl.Trainer, module: pl.LightningModule, task: Task, unpack: Unpack, settings: MeasureSettings
    ) -> None:
        self.task = task
        self.settings = settings
        self.corrupted = self.probe_weights = self.val_weights = self.units = None
        self.ranks = trainer.world_size
        self.initial: dict[str, Tensor] = {}
        self.previous: dict[str, Tensor] = {}
        train, val = _only(trainer.train_dataloader), _only(_validation(trainer))
        self.missing = _what_is_missing(train, val)
        if self.missing:
            return

        def ready(batch: Any) -> Rows:
            return unpack(_as_in_training(trainer, module, batch))

        available = 1  # training rows; unknown for a stream

        def wanted(rows: int) -> int:
            nonlocal available
            available = rows
            return probe_size(rows, len(self.val[0]))

        with isolate_rng(), validating(trainer):
            self.val, val_index = numbered_rows(val, ready)
            self.probe, index = numbered_rows(train, ready, wanted)
        self._numbers = SideRows(index.numpy()), SideRows(val_index.numpy())
        if task == "classification":
            self.probe, self.val = _wide_labels(self.probe), _wide_labels(self.val)
        whole = len(self.probe[0]) < probe_size(available, len(self.val[0]))  # a stream that ended
        self._train_rows = len(self.probe[0]) if whole else available
        self.probe_left = 1 - len(self.probe[0]) / self._train_rows

    def examples(self, module: pl.LightningModule) -> Examples | None:
        """Return the per-example results of the last measured gap; None without one."""
        if self.evaluations is None:
            return None
        outputs, targets = self.evaluations[1].outputs, self.evaluations[1].targets
        width = outputs.shape[-1] if outputs.dim() > 1 else 1
        constant = evaluation_of(constant_predictor(self.probe[1], len(targets), width, self.task), targets, self.task)
        rows = MeasuredRows(*self._numbers, constant, self._train_rows)
        return examples(rows, self.evaluations, self.task, next(module.parameters()).dtype)

    def all(self, trainer: pl.Trainer, module: pl.LightningModule, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the gap, if there is one to measure, and the weight statistics."""
        with validating(trainer), trainer.precision_plugin.val_step_context():
            gap = {} if self.missing else self.gap(module, cocktail)
        return gap | self.weights(module, cocktail)


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
        return "that takes a validation loader and a validation_step in the module"
    return ""


def _wide_labels(rows: Rows) -> Rows:
    """Return rows with labels in int64: losses take no narrower ones."""
    return rows[0], rows[1] if rows[1].is_floating_point() else rows[1].long()
