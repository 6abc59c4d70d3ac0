"""Scores of classification and regression, with the influence of every row.

A row's *influence* is the derivative of the score by the row's weight times the number of rows; its
mean square over the rows is the score's sampling variance, which is how a score that is no mean
gets an interval.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from reglab.tasks import Answers, Task, task_named


def score_name(task: Task | str) -> str:
    """Return the score that is always measured: ``accuracy``, of a regression ``r2``."""
    return task_named(task).score


class Influenced(NamedTuple):
    """A score of every column and what the rows contribute.

    Args:
        value: ``[..., columns]``.
        influence: ``[..., columns, rows]``.
        kish: How many rows each of those that the score is about stands for, ``[..., columns]``:
            where they are few, each counts much.
        known: Where the score is defined.
    """

    value: Tensor
    influence: Tensor
    kish: Tensor
    known: Tensor


def brier(given: Answers, task: Task) -> Tensor:
    """Return each row's squared error of the probabilities ``[..., rows]``: summed over classes,
    mean over labels.

    Source:
        Brier (1950), Verification of forecasts expressed in terms of probability.
    """
    chances = given.scores.exp() if task.exclusive else given.scores.sigmoid()
    squares = (chances - given.wanted).square()
    return squares.sum(-2) if task.exclusive else squares.mean(-2)


def recall(given: Answers) -> Influenced:
    """Return the share of each column's rows that is found; their mean over ``two_sided`` is the
    balanced accuracy.

    Source:
        Brodersen et al. (2010), The balanced accuracy and its posterior.
    """
    right = given.wanted == given.predicted
    share = given.wanted.mean(-1, keepdim=True)
    value = (right * given.wanted).mean(-1, keepdim=True) / share
    return _defined(value, given.wanted * (right.to(share.dtype) - value) / share, 1 / share, share > 0)


def f1(given: Answers) -> Influenced:
    """Return ``2 TP / (2 TP + FP + FN)`` of each column; not defined where nothing is wanted or
    predicted.
    """
    both = given.wanted * given.predicted
    either = given.wanted + given.predicted
    size = either.mean(-1, keepdim=True)
    value = 2 * both.mean(-1, keepdim=True) / size
    return _defined(value, (2 * both - value * either) / size, 2 / size, size > 0)


def auroc(given: Answers) -> Influenced:
    """Return the probability that a positive row's score is above a negative one's, ties half, of
    each column.

    The influences are the placements.

    Source:
        DeLong, DeLong & Clarke-Pearson (1988), Comparing the areas under two or more correlated
        receiver operating characteristic curves.
    """
    wanted, rows = given.wanted, given.wanted.shape[-1]
    ranks = _ranks(given.scores, given.scores)
    positive_ranks = _ranks(given.scores.masked_fill(wanted == 0, torch.inf), given.scores)
    share = wanted.mean(-1, keepdim=True)
    middle, middle_of_positives = sum(ranks) / 2 / rows, sum(positive_ranks) / 2 / rows
    below = (middle - middle_of_positives) / (1 - share)  # share of the negatives
    above = 1 - middle_of_positives / share  # share of the positives
    value = (wanted * below).mean(-1, keepdim=True) / share
    influence = wanted * (below - value) / share + (1 - wanted) * (above - value) / (1 - share)
    return _defined(value, influence, 1 / torch.minimum(share, 1 - share), (share > 0) & (share < 1))


def average_precision(given: Answers) -> Influenced:
    """Return the mean over positive rows of the precision at their score, ``TP / predicted``, of
    each column.
    """
    scores, wanted, rows = given.scores, given.wanted, given.wanted.shape[-1]
    low, high = _ranks(scores, scores)
    positives, _ = _ranks(scores.masked_fill(wanted == 0, torch.inf), scores)
    share = wanted.mean(-1, keepdim=True)
    predicted = 1 - low / rows  # share of the rows with at least this score
    precision = (share - positives / rows) / predicted
    value = (wanted * precision).mean(-1, keepdim=True) / share
    order = scores.argsort(-1)
    # What a row changes of the precision at all positives that do not score above it.
    parts = [
        (wanted * each / predicted / rows).gather(-1, order).cumsum(-1)
        for each in (torch.ones_like(predicted), precision)
    ]
    added, lost = (part.gather(-1, high.long() - 1) for part in parts)
    influence = (wanted * (precision - value) + wanted * added - lost) / share
    return _defined(value, influence, 1 / share, share > 0)


def kappa(given: Answers) -> Influenced:
    """Return Cohen's kappa, ``[...]``, of answers with a column for each class; influences
    ``[..., rows]``.

    Source:
        Cohen (1960), A coefficient of agreement for nominal scales.
    """
    wanted, predicted = (each.mean(-1, keepdim=True) for each in (given.wanted, given.predicted))
    right = (given.wanted * given.predicted).sum(-2)
    agreed, chance = right.mean(-1, keepdim=True), (wanted * predicted).sum(-2)
    value = (agreed - chance) / (1 - chance)
    moved = (given.wanted * predicted + wanted * given.predicted).sum(-2) - 2 * chance
    influence = (right - agreed - (1 - value) * moved) / (1 - chance)
    return _defined(value, influence, 1 / (1 - chance), chance < 1)


def iou(statistics: Tensor) -> Influenced:
    """Return intersection over union of each class, over the pixels of all rows; not defined where
    no pixel is of the class or predicted to be.

    Args:
        statistics: Of a segmentation, ``[statistics, ..., rows]``: from the third on the pixels of
            the intersections, then of the unions, of each class.
    """
    classes = (len(statistics) - 2) // 2
    both, either = (part.movedim(0, -2) for part in (statistics[2 : 2 + classes], statistics[2 + classes :]))
    size = either.mean(-1, keepdim=True)
    value = both.mean(-1, keepdim=True) / size
    kish = either.square().mean(-1, keepdim=True) / size.square()
    return _defined(value, (both - value * either) / size, kish, size > 0)


RANKED: dict[str, Callable[[Answers], Influenced]] = {
    "f1": f1,
    "auroc": auroc,
    "average_precision": average_precision,
}


def two_sided(given: Answers, task: Task) -> Answers:
    """Return the answers with a column for each class where a column stands for two."""
    if task.exclusive:
        return given
    return Answers(*(torch.cat([each, turned], -2) for each, turned in zip(given, _turned(given), strict=True)))


def mean_of_columns(each: Influenced) -> Influenced:
    """Return the mean over the columns where the score is defined, ``[...]``, with influences
    ``[..., rows]``.
    """
    known, count = each.known, each.known.sum(-1)
    value = each.value.masked_fill(~known, 0.0).sum(-1) / count
    influence = each.influence.masked_fill(~known.unsqueeze(-1), 0.0).sum(-2) / count.unsqueeze(-1)
    return Influenced(value, influence, each.kish.masked_fill(~known, 0.0).sum(-1) / count.square(), count > 0)


def _turned(given: Answers) -> Answers:
    return Answers(-given.scores, 1 - given.wanted, 1 - given.predicted)


def _ranks(among: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many of ``among`` are below each score, and how many not above it."""
    ordered = among.sort(-1).values
    below, up_to = (torch.searchsorted(ordered, scores, right=right) for right in (False, True))
    return below.to(scores.dtype), up_to.to(scores.dtype)


def _defined(value: Tensor, influence: Tensor, kish: Tensor, known: Tensor) -> Influenced:
    return Influenced(value.squeeze(-1), influence, kish.squeeze(-1), known.squeeze(-1))
