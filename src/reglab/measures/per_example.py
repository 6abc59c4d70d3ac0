"""Per-example statistics that losses and scores follow from."""

import torch
from torch import Tensor

from reglab.measures.evaluate import Evaluation
from reglab.tasks import Scale, Task, task_named

_R2_ZERO = 1e-4  # torchmetrics takes a sum of squared residuals up to here for a perfect fit


def example_statistics(outputs: Tensor, targets: Tensor, task: Task | str) -> Tensor:
    """Return what loss and score of any weighting of the rows follow from, ``[statistics, rows]``.

    - of quantities: the loss of each output column
    - of what is decided: the example's loss, then its share of right decisions

    The numbers are those of ``example_losses`` and of the task's ``shares``, up to rounding.
    Shapes: as for ``example_losses``, without leading axes; ``vmap`` gives it any.

    Args:
        outputs: ``[rows, ...]``.
        targets: ``[rows, ...]``.
        task: Which decides the statistics.

    Returns:
        ``[statistics, rows]``.
    """
    task = task_named(task)
    return task.statistics(task.align(outputs, targets), targets)


def losses_of(statistics: Tensor, task: Task | str) -> Tensor:
    """Return the losses ``[...]`` from statistics, or weighted means of statistics,
    ``[statistics, ...]``.
    """
    return task_named(task).losses_of(statistics)


def scale(targets: Tensor, task: Task | str) -> Scale:
    """Return the scale of ``targets``, ``[rows]`` or ``[rows, columns]``."""
    return task_named(task).scale(targets)


def statistics_of(evaluation: Evaluation, task: Task | str) -> Tensor:
    """Return the ``example_statistics`` of a model's answers, whose losses are known already."""
    task = task_named(task)
    outputs = task.align(evaluation.outputs, evaluation.targets)
    return task.statistics_of(evaluation.losses, outputs, evaluation.targets)


def point_score(statistics: Tensor, given: Scale, task: Task | str) -> Tensor:
    """Return the score ``[...]`` of statistics ``[statistics, ..., rows]``, as ``scores`` defines
    it.

    The fields of ``given`` have the axes of the statistics after their columns, or of length 1.

    Args:
        statistics: ``[statistics, ..., rows]``.
        given: The scale of the targets.
        task: Which decides the score.

    Returns:
        ``[...]``.
    """
    task = task_named(task)
    if task.decides:
        return statistics[1].mean(-1)
    statistics = task.columns_of(statistics)
    residual = statistics.sum(-1) / given.variance
    residual = residual.masked_fill(residual <= _R2_ZERO, 0.0)
    spread = torch.where(given.constant, residual, torch.full_like(residual, statistics.shape[-1]))
    return (1 - residual / spread).masked_fill(residual == 0, 1.0).mean(0)


def ratios_without(statistics: Tensor, given: Scale) -> Tensor:
    """Return by what share of itself ``1 - r2`` changes without each row, ``[..., rows]``; NaN of
    constant targets.

    Args:
        statistics: Losses by column ``[columns, ..., rows]``. Without a row, a sum of squares
            around the mean loses ``rows / (rows - 1)`` of the row's own square; the loss by another
            best constant does so to first order.
    """
    rows = statistics.shape[-1]
    mean = statistics.mean(-1, keepdim=True)
    error = (1 - statistics / mean) / (rows - 1)
    spread = (1 - given.squares * rows / (rows - 1)) / (rows - 1)
    moved = ((error - spread) / (1 + spread)).masked_fill(given.constant.unsqueeze(-1), torch.nan)
    weights = mean / given.variance.unsqueeze(-1)
    return (weights / weights.sum(0) * moved).sum(0)
