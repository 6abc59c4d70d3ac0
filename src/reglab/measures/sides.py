"""``Side``: the measured rows of one side of a gap."""

from typing import NamedTuple

from torch import Tensor

from reglab.measures.evaluate import Evaluation
from reglab.measures.per_example import scale, statistics_of
from reglab.tasks import Scale, Task, task_named


class Side(NamedTuple):
    """Rows that were measured.

    Args:
        statistics: What ``example_statistics`` says of them, ``[statistics, ..., rows]``.
        scale: Of their targets.
        left: The share of their population that was not measured: 1 where they stand for new rows,
            ``1 - measured / rows`` for a probe of the training rows, 0 where every row was measured
            and nothing is left to chance.
        weights: Of the rows in training, ``[..., rows]``; None: all alike.
        outputs, targets: aligned, ``[..., rows, ...]``; only some scores need them.
        units: The deviations by which standardizing divided the target's columns,
            ``[columns, ...]``; None: 1.
    """

    statistics: Tensor
    scale: Scale
    left: float = 1.0
    weights: Tensor | None = None
    outputs: Tensor | None = None
    targets: Tensor | None = None
    units: Tensor | None = None


def side(
    evaluation: Evaluation,
    task: Task | str,
    left: float = 1.0,
    weights: Tensor | None = None,
    units: Tensor | None = None,
) -> Side:
    """Return a model's answers, or those of some models on the same rows, as a side of a gap.

    Args:
        evaluation: Losses and outputs of the rows.
        task: Which decides the statistics.
        left: Share of the population that was not measured, see ``Side``.
        weights: ``[rows]``, None where all count alike.
        units: ``[columns]``, None for 1.
    """
    task = task_named(task)
    statistics = statistics_of(evaluation, task)
    given = scale(evaluation.targets.to(statistics.dtype), task)
    for _ in range(statistics.dim() - 2):
        given = Scale(*(field.unsqueeze(1) for field in given))
        units = None if units is None else units.unsqueeze(1)
    outputs = task.align(evaluation.outputs, evaluation.targets)
    return Side(statistics, given, left, weights, outputs, evaluation.targets, units)
