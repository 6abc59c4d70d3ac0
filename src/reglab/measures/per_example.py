"""Per-example statistics that losses and scores follow from."""

from typing import NamedTuple

import torch
from torch import Tensor

from reglab.measures.evaluate import Evaluation
from reglab.measures.losses import Task, aligned, example_losses
from reglab.measures.scores import score_terms

_R2_ZERO = 1e-4  # torchmetrics takes a sum of squared residuals up to here for a perfect fit


def example_statistics(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Return what loss and score of any weighting of the rows follow from, ``[statistics, rows]``.

    - regression: the squared error of each output column
    - every other task: the example's loss, then its share of right answers

    The numbers are those of ``example_losses`` and ``score_terms``, up to rounding. Shapes: as for
    ``example_losses``, without leading axes; ``vmap`` gives it any.

    Args:
        outputs: ``[rows, ...]``.
        targets: ``[rows]`` or ``[rows, columns]``.
        task: Which decides the statistics.

    Returns:
        ``[statistics, rows]``.
    """
    predictions = aligned(outputs, targets, task)
    if task == "regression":
        squares = (predictions - targets.to(predictions.dtype)).square()
        return squares.unsqueeze(0) if targets.dim() == 1 else squares.movedim(-1, 0)
    if task == "classification":
        # Cross entropy and decision from one maximum: half the time of the library's over short
        # rows, on a CPU.
        largest = predictions.max(-1, keepdim=True)
        below = predictions - largest.values
        losses = below.exp().sum(-1).log() - below.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return torch.stack([losses, (largest.indices.squeeze(-1) == targets).to(losses.dtype)])
    losses = example_losses(outputs, targets, task)
    return torch.stack([losses, score_terms(outputs, targets, task)])


def losses_of(statistics: Tensor, task: Task) -> Tensor:
    """Return the losses ``[...]`` from statistics, or weighted means of statistics,
    ``[statistics, ...]``.
    """
    return statistics.mean(0) if task == "regression" else statistics[0]


class Scale(NamedTuple):
    """What a score needs to know of the targets; from ``scale``.

    Args:
        variance: ``[columns]``, 1 where targets are constant.
        constant: bool ``[columns]``.
        squares: Of the standardized targets, ``[columns, rows]``. Empty but for regression.
    """

    variance: Tensor
    constant: Tensor
    squares: Tensor


def scale(targets: Tensor, task: Task) -> Scale:
    """Return the scale of ``targets``, ``[rows]`` or ``[rows, columns]``."""
    if task != "regression":
        return Scale(*(targets.new_zeros(0) for _ in Scale._fields))
    columns = targets if targets.dim() == 2 else targets.unsqueeze(-1)
    spread, mean = torch.std_mean(columns, dim=0, correction=0)
    divisor = spread.masked_fill(spread == 0, 1.0)
    return Scale(divisor.square(), spread == 0, ((columns - mean) / divisor).square().mT)


def statistics_of(evaluation: Evaluation, task: Task) -> Tensor:
    """Return the ``example_statistics`` of a model's answers, whose losses are known already."""
    if task == "regression":
        return example_statistics(evaluation.outputs, evaluation.targets, task)
    shares = score_terms(evaluation.outputs, evaluation.targets, task)
    return torch.stack([evaluation.losses, shares.to(evaluation.losses.dtype)])


def point_score(statistics: Tensor, given: Scale, task: Task) -> Tensor:
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
    if task != "regression":
        return statistics[1].mean(-1)
    residual = statistics.sum(-1) / given.variance
    residual = residual.masked_fill(residual <= _R2_ZERO, 0.0)
    spread = torch.where(given.constant, residual, torch.full_like(residual, statistics.shape[-1]))
    return (1 - residual / spread).masked_fill(residual == 0, 1.0).mean(0)


def ratios_without(statistics: Tensor, given: Scale) -> Tensor:
    """Return by what share of itself ``1 - r2`` changes without each row, ``[..., rows]``; NaN of
    constant targets.

    Args:
        statistics: Squared errors ``[columns, ..., rows]``. Without a row, a sum of squares around
            the mean loses ``rows / (rows - 1)`` of the row's own square.
    """
    rows = statistics.shape[-1]
    mean = statistics.mean(-1, keepdim=True)
    error = (1 - statistics / mean) / (rows - 1)
    spread = (1 - given.squares * rows / (rows - 1)) / (rows - 1)
    moved = ((error - spread) / (1 + spread)).masked_fill(given.constant.unsqueeze(-1), torch.nan)
    weights = mean / given.variance.unsqueeze(-1)
    return (weights / weights.sum(0) * moved).sum(0)
