"""What each row contributes to loss and score, in one table: the form in which many models are measured at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from reglab.measures.losses import Task, aligned, example_losses
from reglab.measures.scores import score_of_means, score_terms, standardized

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
        return squares.unsqueeze(0) if targets.dim() == 1 else squares.mT
    if task == "classification":
        # Cross entropy and decision from one maximum: half the time of the library's over short rows, on a CPU.
        largest = predictions.max(-1, keepdim=True)
        below = predictions - largest.values
        losses = below.exp().sum(-1).log() - below.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return torch.stack([losses, (largest.indices.squeeze(-1) == targets).to(losses.dtype)])
    losses = example_losses(outputs, targets, task)
    return torch.stack([losses, score_terms(outputs, targets, task)[0]])


def losses_of(facts: Tensor, task: Task) -> Tensor:
    """Return the losses ``[...]`` from facts, or weighted means of facts, ``[facts, ...]``."""
    return facts.mean(0) if task == "regression" else facts[0]


class Scale(NamedTuple):
    """What a score needs to know of the targets; from ``scale``.

    variance: ``[columns]``, 1 where targets are constant. constant: bool ``[columns]``. moments: means of the
    standardized targets and of their squares in every resample, ``[columns, 2, resamples]``. Empty but for regression.
    """

    variance: Tensor
    constant: Tensor
    moments: Tensor


def scale(targets: Tensor, weights: Tensor, task: Task) -> Scale:
    """Return the scale of ``targets`` and their moments under resampling weights ``[rows, resamples]``."""
    if task != "regression":
        return Scale(*(targets.new_zeros(0) for _ in Scale._fields))
    columns = targets if targets.dim() == 2 else targets.unsqueeze(-1)
    spread = columns.std(0, correction=0)
    _, wanted = standardized(columns, columns)
    terms = torch.stack([wanted, wanted.square()], dim=-1).flatten(-2).mT
    moments = resampled_means(terms, weights).view(columns.shape[1], 2, -1)
    return Scale(spread.square().masked_fill(spread == 0, 1.0), spread == 0, moments)


def point_score(facts: Tensor, given: Scale, task: Task) -> Tensor:
    """Return the score ``[...]`` of facts ``[facts, ..., rows]``, as ``scores`` defines it.

    The fields of ``given`` have the axes of the facts after their columns, or of length 1.
    """
    if task != "regression":
        return facts[1].mean(-1).float()  # shares of counts, in float32 like torchmetrics'
    residual = facts.sum(-1) / given.variance
    residual = residual.masked_fill(residual <= _R2_ZERO, 0.0)
    spread = torch.where(given.constant, residual, torch.full_like(residual, facts.shape[-1]))
    return (1 - residual / spread).masked_fill(residual == 0, 1.0).mean(0)


def score_of_resamples(means: Tensor, given: Scale, task: Task) -> Tensor:
    """Return the score of every resample, ``[..., resamples]``, from means of facts ``[facts, ..., resamples]``."""
    if task != "regression":
        return means[1]
    residual = means / given.variance.unsqueeze(-1)
    first, second = (moment.expand(residual.shape) for moment in given.moments.unbind(-2))
    terms = torch.stack([residual, first, second], dim=1).flatten(0, 1)
    return score_of_means(terms.movedim(0, -2), task)


def resampled_means(terms: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted means ``[..., resamples]`` of ``terms`` ``[..., rows]``; weights ``[rows, resamples]``."""
    # Weights sum to 1, so the mean may be taken out; what is multiplied is then small, and rounding (TF32's too) is
    # relative to the spread of the losses instead of their size.
    centre = terms.mean(-1, keepdim=True)
    return (terms - centre) @ weights.to(terms.dtype) + centre
