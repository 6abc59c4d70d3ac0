"""Both sides of a gap on a user's loaders: the rows, the gap by batches, the results by example."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from reglab.analysis.per_example_file import Array, Examples
from reglab.callback.batch_evaluation import Asked, BatchEvaluation
from reglab.callback.dataloader_rows import wide_labels
from reglab.callback.fixed_batches import FixedBatches
from reglab.callback.own_scores import is_lower_better
from reglab.measures import Evaluation, MeasureSettings, gap, gap_of_means, gap_of_points, side
from reglab.measures.evaluate import evaluation_of
from reglab.tasks import Task
from reglab.training import measured_rows
from reglab.training.measured_rows import GapRows, GapSide
from reglab.training.per_example import MeasuredRows, SideRows, constant_predictor, examples, has_examples

_OF_AN_INTERVAL = ("val/loss_se", "gap/loss_low", "gap/loss_high")


class Sides(NamedTuple):
    """The batches of both sides.

    Args:
        train_rows: How many the training part has.
    """

    probe: FixedBatches
    val: FixedBatches
    train_rows: int

    @property
    def both(self) -> tuple[FixedBatches, FixedBatches]:
        """The probe and the validation rows."""
        return self.probe, self.val

    @property
    def left(self) -> float:
        """The share of the training rows that is not measured."""
        return 1 - self.probe.rows / self.train_rows

    def gap_rows(self, asked: Asked) -> GapRows | None:
        """Return the rows that a gap by a task alone is measured on; None where it is measured by
        batches.
        """
        by_task_alone = asked.task is not None and asked.loss is None and not asked.scores
        if not by_task_alone or self.probe.kept is None or self.val.kept is None:
            return None
        assert asked.task is not None
        probe, val = (_kept_side(batches, asked.task) for batches in self.both)
        return GapRows(asked.task, probe._replace(left=self.left), val)

    def examples(self, evaluations: tuple[Evaluation, Evaluation], task: Task, dtype: torch.dtype) -> Examples | None:
        """Return the results by example of a gap by a task; None of too few groups of rows.

        Args:
            evaluations: Of the probe and of the validation rows.
            task: Of the outputs.
            dtype: Of the model.
        """
        if not has_examples(task, evaluations):
            return None
        (_, _, fitted), (_, outputs, targets) = evaluations
        best = constant_predictor(fitted, len(targets), task.width(outputs), task)
        constant = evaluation_of(best, targets, task)
        probe, val = (SideRows(_index(*each)) for each in zip(self.both, evaluations, strict=True))
        return examples(MeasuredRows(probe, val, constant, self.train_rows), evaluations, task, dtype)

    def examples_of_batches(
        self, evaluated: tuple[BatchEvaluation, BatchEvaluation], asked: Asked, dtype: torch.dtype
    ) -> Examples | None:
        """Return the results by example of a gap by batches; None of a loss by batch.

        Args:
            evaluated: The probe and the validation rows.
            asked: What was measured.
            dtype: Of the model.
        """
        probe, val = evaluated
        kept = None
        if asked.task is not None and probe.outputs is not None and val.outputs is not None:
            kept = self.examples((probe.outputs, val.outputs), asked.task, dtype)
        if asked.loss is None:
            return kept
        if probe.losses is None or val.losses is None:
            return None
        losses = {"probe_loss": _array(probe.losses, dtype), "val_loss": _array(val.losses, dtype)}
        if kept is not None:
            return replace(kept, **losses, val_constant_loss=None)
        return Examples(
            **losses,
            probe_score=losses["probe_loss"],
            val_score=losses["val_loss"],
            probe_index=_index(self.probe, probe),
            val_index=_index(self.val, val),
            train_rows=_array(torch.tensor(self.train_rows), torch.int64),
        )


def gap_of_batches(
    train: BatchEvaluation, val: BatchEvaluation, asked: Asked, left: float, settings: MeasureSettings
) -> dict[str, Tensor]:
    """Return the gap by the task, where there is one, with the loss by a user's own, where there is
    one, and with the user's own scores.

    An own loss of a whole batch has no interval, nor has a score that is not by row.

    Args:
        train: The probe.
        val: The validation rows.
        asked: What was measured.
        left: The share of the training rows that is not measured.
        settings: Of intervals and scores.

    Returns:
        Metrics by name, as of ``measures.gap``.
    """
    metrics: dict[str, Tensor] = {}
    if asked.task is not None and train.outputs is not None and val.outputs is not None:
        sides = side(train.outputs, asked.task, left), side(val.outputs, asked.task)
        metrics |= gap(*sides, asked.task, settings.level, settings.wanted)
    if train.losses is not None and val.losses is not None:
        metrics |= gap_of_means("loss", train.losses, val.losses, left, settings.level)
    elif train.loss is not None and val.loss is not None:
        metrics = {key: value for key, value in metrics.items() if key not in _OF_AN_INTERVAL}
        metrics |= gap_of_points("loss", train.loss, val.loss)
    for name, score in asked.scores.items():
        fitted, new, lower = train.scores[name], val.scores[name], is_lower_better(name, score)
        if new.dim():
            metrics |= gap_of_means(name, fitted, new, left, settings.level, lower)
        else:
            metrics |= gap_of_points(name, fitted, new, lower)
    return metrics


def _array(values: Tensor, dtype: torch.dtype) -> Array:
    wide = dtype if not dtype.is_floating_point or dtype == torch.float64 else torch.float32
    array: Array = values.detach().to("cpu", wide).numpy()
    return array


def _index(batches: FixedBatches, evaluated: Evaluation | BatchEvaluation) -> Array:
    numbers: Array = batches.numbers(0 if evaluated.losses is None else len(evaluated.losses)).numpy()
    return numbers


def _kept_side(batches: FixedBatches, task: Task) -> GapSide:
    inputs, targets = batches.take()
    return GapSide(measured_rows.Rows(inputs), measured_rows.Rows(wide_labels(targets, task)))
