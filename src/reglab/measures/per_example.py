"""What each row contributes to loss and score, in one table: the form in which many models are measured at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from reglab.measures.evaluate import Evaluation
from reglab.measures.losses import Task, aligned, example_losses
from reglab.measures.scores import score_terms

_R2_ZERO = 1e-4  # torchmetrics takes a sum of squared residuals up to here for a perfect fit


def row_facts(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Return what loss and score of any weighting of the rows follow from, ``[facts, rows]``.

    - regression: the squared error of each output column
    - every other task: the example's loss, then its share of right answers

    The numbers are those of ``example_losses`` and ``score_terms``, up to rounding. Shapes: as for ``example_losses``,
    without leading axes; ``vmap`` gives it any.
    """
    predictions = aligned(outputs, targets, task)
    if task == "regression":
        squares = (predictions - targets.to(predictions.dtype)).square()
        return squares.unsqueeze(0) if targets.dim() == 1 else squares.movedim(-1, 0)
    if task == "classification":
        # Cross entropy and decision from one maximum: half the time of the library's over short rows, on a CPU.
        largest = predictions.max(-1, keepdim=True)
        below = predictions - largest.values
        losses = below.exp().sum(-1).log() - below.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return torch.stack([losses, (largest.indices.squeeze(-1) == targets).to(losses.dtype)])
    losses = example_losses(outputs, targets, task)
    return torch.stack([losses, score_terms(outputs, targets, task)])


def losses_of(facts: Tensor, task: Task) -> Tensor:
    """Return the losses ``[...]`` from facts, or weighted means of facts, ``[facts, ...]``."""
    return facts.mean(0) if task == "regression" else facts[0]


class Scale(NamedTuple):
    """What a score needs to know of the targets; from ``scale``.

    variance: ``[columns]``, 1 where targets are constant. constant: bool ``[columns]``. squares: of the standardized
    targets, ``[columns, rows]``. Empty but for regression.
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


def facts_of(evaluation: Evaluation, task: Task) -> Tensor:
    """Return the ``row_facts`` of a model's answers, whose losses are known already."""
    if task == "regression":
        return row_facts(evaluation.outputs, evaluation.targets, task)
    shares = score_terms(evaluation.outputs, evaluation.targets, task)
    return torch.stack([evaluation.losses, shares.to(evaluation.losses.dtype)])


def point_score(facts: Tensor, given: Scale, task: Task) -> Tensor:
    """Return the score ``[...]`` of facts ``[facts, ..., rows]``, as ``scores`` defines it.

    The fields of ``given`` have the axes of the facts after their columns, or of length 1.
    """
    if task != "regression":
        return facts[1].mean(-1)
    residual = facts.sum(-1) / given.variance
    residual = residual.masked_fill(residual <= _R2_ZERO, 0.0)
    spread = torch.where(given.constant, residual, torch.full_like(residual, facts.shape[-1]))
    return (1 - residual / spread).masked_fill(residual == 0, 1.0).mean(0)


def ratios_without(facts: Tensor, given: Scale) -> Tensor:
    """Return by what share of itself ``1 - r2`` changes without each row, ``[..., rows]``; NaN of constant targets.

    facts: squared errors ``[columns, ..., rows]``. Without a row, a sum of squares around the mean loses
    ``rows / (rows - 1)`` of the row's own square.
    """
    rows = facts.shape[-1]
    mean = facts.mean(-1, keepdim=True)
    error = (1 - facts / mean) / (rows - 1)
    spread = (1 - given.squares * rows / (rows - 1)) / (rows - 1)
    moved = ((error - spread) / (1 + spread)).masked_fill(given.constant.unsqueeze(-1), torch.nan)
    weights = mean / given.variance.unsqueeze(-1)
    return (weights / weights.sum(0) * moved).sum(0)
