"""Losses and scores of measured rows, as estimates for new rows, with intervals."""

from collections.abc import Sequence

import torch
from torch import Tensor

from reglab.core.metric_direction import WEIGHTED
from reglab.measures import scores as functions
from reglab.measures.groups import by_group, check_rows, enough_groups
from reglab.measures.intervals import Estimated, log_interval, mean_interval, mean_of_estimates, share_interval
from reglab.measures.own_scores import AnyScore, OwnScore
from reglab.measures.parts import scores_of_target, sides_of_targets
from reglab.measures.per_example import losses_of, point_score, ratios_without
from reglab.measures.sides import Side
from reglab.tasks import Task, task_named
from reglab.tasks.multi import Multi

_OF_THE_LOSS = ("loss", WEIGHTED + "loss", "log_loss", "brier")


def estimates(measured: Side, task: Task | str, level: float, scores: Sequence[AnyScore] = ()) -> dict[str, Estimated]:
    """Return loss and score of a part by name, and what else is wanted of it; see ``gap``.

    - means (losses, Brier, absolute error): Hall's cubic t interval; of the squared errors, its
      roots for rmse
    - accuracy: Wilson's interval; of several labels, with as many rows as their shares are worth
    - balanced accuracy: Wilson's interval of each class, put together
    - F1, AUROC, average precision: Wilson's, with the rows that their influences are worth
    - r2, d2: the jackknife of ``log(1 - r2)``; none where the targets are constant or fitted
      perfectly

    Args:
        measured: The rows.
        task: Which decides loss and score.
        level: Of the intervals, between 0 and 1.
        scores: Names of scores, or the user's own, beside the task's own.

    Returns:
        Estimates by metric name.
    """
    task = task_named(task)
    check_rows(task, measured.statistics.shape[-1])
    by_name = {"loss": _loss(losses_of(measured.statistics, task), task, level)}
    if isinstance(task, Multi):
        for target, own, part in sides_of_targets(measured, task):
            found = unless_faultless(estimates(part, own, level, scores_of_target(target, scores)), part, own)
            by_name |= {f"{target}/{name}": each for name, each in found.items()}
    else:
        by_name[task.score] = (
            _share(measured.statistics[1], level) if task.decides else _explained(measured, task, level)
        )
    for name in (*task.also, *scores):
        if isinstance(name, OwnScore):
            by_name[name.name] = name.estimate(measured, task)
        elif name not in by_name:
            by_name[name] = _other(name, measured, task, level)
    if measured.weights is not None:
        by_name |= _weighted(measured, measured.weights, task, level)
    return by_name


def exact(measured: Side, task: Task | str, scores: Sequence[AnyScore] = ()) -> dict[str, Estimated]:
    """Return what ``estimates`` does of a part of which every row was measured, and which stands
    for itself.

    Args:
        measured: The rows.
        task: Which decides loss and score.
        scores: Names of scores, or the user's own, beside the task's own.

    Returns:
        Estimates by metric name, with intervals of width 0.
    """
    task = task_named(task)
    check_rows(task, measured.statistics.shape[-1])
    values = {"loss": losses_of(measured.statistics, task).mean(-1)}
    if isinstance(task, Multi):
        return _exact_of_targets(measured, task, scores)
    values[task.score] = point_score(measured.statistics, measured.scale, task)
    if task.also == ("rmse",):  # the one that needs no interval to be computed for it
        values["rmse"] = _of_columns(task.columns_of(measured.statistics).mean(-1).sqrt(), measured.units)
    elif task.also:
        scores = (*task.also, *scores)
    if scores or measured.weights is not None:
        values |= {name: each.value for name, each in estimates(measured, task, 0.95, scores).items()}
    return {key: _as_exact(value) for key, value in values.items()}


def _as_exact(value: Tensor) -> Estimated:
    return Estimated(value, torch.zeros_like(value), value, value)


def _exact_of_targets(measured: Side, task: Multi, scores: Sequence[AnyScore]) -> dict[str, Estimated]:
    """Return what ``exact`` does of several targets."""
    losses = losses_of(measured.statistics, task)
    found = {"loss": _as_exact(losses.mean(-1))}
    for target, own, part in sides_of_targets(measured, task):
        each = exact(part, own, scores_of_target(target, scores))
        found |= {f"{target}/{name}": estimated for name, estimated in each.items()}
    found |= {
        score.name: _as_exact(score.estimate(measured, task).value) for score in scores if isinstance(score, OwnScore)
    }
    if measured.weights is not None:
        found |= {key: _as_exact(each.value) for key, each in _weighted(measured, measured.weights, task, 0.95).items()}
    return found


def unless_faultless(estimated: dict[str, Estimated], measured: Side, task: Task | str) -> dict[str, Estimated]:
    """Return the estimates, the losses without an interval where no row was decided wrongly.

    There is then no estimate of the cost of an error, and no interval of the loss covers: see
    docs/intervals.md.
    """
    if not task_named(task).decides:
        return estimated
    faultless = (measured.statistics[1] == 1).all(-1)
    return {key: each.unless(faultless) if key in _OF_THE_LOSS else each for key, each in estimated.items()}


def _loss(values: Tensor, task: Task, level: float) -> Estimated:
    """Return the mean of losses; where rows have none of their own, with the interval of the mean
    of their groups, if there are enough.
    """
    rows = values.shape[-1]
    groups = task.groups(rows)
    if groups is not None and not enough_groups(task, rows):
        unknown = torch.full_like(values.mean(-1), torch.nan)
        return Estimated(values.mean(-1), unknown, unknown, unknown)
    values = values if groups is None else by_group(values, groups)
    return _mean(values, level) if task.nonnegative else mean_interval(values, level)


def _mean(values: Tensor, level: float) -> Estimated:
    """Return the mean of values that are never negative."""
    estimated = mean_interval(values, level)
    return estimated._replace(low=estimated.low.clamp(min=0))


def _share(shares: Tensor, level: float) -> Estimated:
    """Return the mean of values from 0 to 1."""
    value = shares.mean(-1)
    return share_interval(value, shares - value.unsqueeze(-1), level)


def _explained(measured: Side, task: Task, level: float) -> Estimated:
    value = point_score(measured.statistics, measured.scale, task)
    missing = log_interval(1 - value, ratios_without(task.columns_of(measured.statistics), measured.scale), level)
    return Estimated(value, missing.error, 1 - missing.high, 1 - missing.low)


def _other(name: str, measured: Side, task: Task, level: float) -> Estimated:
    if name == "log_loss":
        return _mean(task.log_losses(measured.statistics, measured.outputs, measured.targets), level)
    if name == "rmse":
        each = _mean(task.columns_of(measured.statistics), level).rooted()
        return mean_of_estimates(each if measured.units is None else Estimated(*(x * measured.units for x in each)))
    if name == "mrr":
        return _share(measured.statistics[task.means[name]], level)
    if name in task.means:
        return _mean(measured.statistics[task.means[name]], level)
    if name == "perplexity":
        return _mean(task.log_losses(measured.statistics, measured.outputs, measured.targets), level).exponential()
    if name == "mean_iou":
        score = functions.mean_of_columns(functions.iou(measured.statistics))
        return share_interval(score.value, score.influence, level, score.kish)
    if name == "mae":
        units = None if measured.units is None else measured.units.unsqueeze(-1)
        return _mean(_of_columns(task.columns_of(measured.statistics).sqrt(), units), level)
    assert measured.outputs is not None
    assert measured.targets is not None
    answers = task.answers(measured.outputs, measured.targets)
    if name == "brier":
        return _mean(functions.brier(answers, task), level)
    if name == "balanced_accuracy":  # each class's own share of right rows, whose interval needs no approximation
        shares = functions.recall(functions.two_sided(answers, task))
        each = share_interval(shares.value, shares.influence, level, shares.kish)
        columns = Estimated(*(values.movedim(-1, 0) for values in each))
        return mean_of_estimates(columns, shares.known.movedim(-1, 0))
    if name == "kappa":  # from -1 to 1
        score = functions.kappa(functions.two_sided(answers, task))
        half = share_interval((score.value + 1) / 2, score.influence / 2, level, score.kish)
        return Estimated(score.value, 2 * half.error, 2 * half.low - 1, 2 * half.high - 1)
    score = functions.mean_of_columns(functions.RANKED[name](answers))
    return share_interval(score.value, score.influence, level, score.kish)


def _of_columns(values: Tensor, units: Tensor | None) -> Tensor:
    return (values if units is None else values * units).mean(0)


def _weighted(measured: Side, weights: Tensor, task: Task, level: float) -> dict[str, Estimated]:
    """Return loss and accuracy in which each row counts as in training: ``sum w * x / sum w``."""
    weights = weights.to(measured.statistics.dtype)
    weights = weights / weights.mean(-1, keepdim=True)
    losses = losses_of(measured.statistics, task)
    mean = (weights * losses).mean(-1, keepdim=True)
    estimated = {WEIGHTED + "loss": _loss(mean + weights * (losses - mean), task, level)}
    if task.decides:
        shares = measured.statistics[1]
        value = (weights * shares).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)  # 1 where all are right
        around = weights * (shares - value)
        estimated[WEIGHTED + task.score] = share_interval(value.squeeze(-1), around, level, weights.square().mean(-1))
    return estimated
