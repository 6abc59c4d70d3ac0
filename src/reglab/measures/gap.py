"""The audited gap between training and validation, with confidence intervals in closed form."""

from collections.abc import Sequence

import torch
from torch import Tensor

from reglab.core.metric_direction import lower_is_better
from reglab.measures.estimates import estimates, exact, unless_faultless
from reglab.measures.intervals import Estimated, difference, mean_interval
from reglab.measures.own_scores import AnyScore
from reglab.measures.sides import Side
from reglab.tasks import Task


def gap(
    train: Side, val: Side, task: Task | str, level: float = 0.95, scores: Sequence[AnyScore] = ()
) -> dict[str, Tensor]:
    """Return losses, scores and their gaps, positive where the model overfits, with intervals at
    ``level``.

    ``gap/<name>`` is ``val - train`` of the loss and of what else is better when it is lower,
    ``train - val`` of the others, with the ends of its interval, ``_low`` and ``_high``.
    ``val/<name>_se`` is the standard error over the validation examples. Names: ``loss``, the
    task's score, for a regression ``rmse``, the ``scores`` that are wanted beside them, and of rows
    with weights ``weighted_loss`` and ``weighted_accuracy``.

    What an interval is of: the expected loss of **new rows** minus the mean loss over the **actual
    training set**, the model fixed. It says how far the gap would move with other validation
    examples, and with another probe of the training rows; not with another seed or training sample.
    Where the probe is the whole training part, that side is exact. Examples count as independent:
    where they come in groups, it is too narrow.

    Each side has an interval of its own (see ``estimates``), that of the training side narrowed by
    what of it was measured; the two are put together as in Newcombe's interval. The loss has none,
    NaN, where no validation row is decided wrongly.

    Shapes: 0-dim, or ``[members]`` where statistics are ``[statistics, members, rows]``.

    Args:
        train: The probe of the training rows.
        val: The validation rows.
        task: Which decides loss and score.
        level: Of the intervals, between 0 and 1.
        scores: Names of scores, or the user's own, beside the task's own.

    Returns:
        Metrics by name.
    """
    of_val = unless_faultless(estimates(val, task, level, scores), val, task)
    of_train = estimates(train, task, level, scores) if train.left else exact(train, task, scores)
    metrics: dict[str, Tensor] = {}
    for key, new in of_val.items():
        fitted = of_train[key].of_a_part(train.left) if train.left else of_train[key]
        metrics |= _both_sides(key, fitted, new, lower_is_better(key))
    return metrics


def gap_of_means(
    name: str, train: Tensor, val: Tensor, left: float = 0.0, level: float = 0.95, lower: bool = True
) -> dict[str, Tensor]:
    """Return the means of a value of each example on both sides, and their gap, with intervals as
    those of ``gap``.

    Args:
        name: Of the value.
        train: Of the probe, ``[rows]``, of any sign.
        val: Of the validation part, ``[rows]``.
        left: The share of the training rows that was not measured, see ``Side``.
        level: Of the intervals, between 0 and 1.
        lower: Whether lower values are better.

    Returns:
        ``train/<name>``, ``val/<name>``, ``val/<name>_se``, ``gap/<name>`` and its ends.
    """
    value = train.mean(-1)
    exactly = Estimated(value, torch.zeros_like(value), value, value)
    fitted = mean_interval(train, level).of_a_part(left) if left else exactly
    return _both_sides(name, fitted, mean_interval(val, level), lower)


def gap_of_points(name: str, train: Tensor, val: Tensor, lower: bool = True) -> dict[str, Tensor]:
    """Return two values and their gap, without an interval.

    Args:
        name: Of the value.
        train: Of the probe, 0-dim.
        val: Of the validation part, 0-dim.
        lower: Whether lower values are better.
    """
    return {f"train/{name}": train, f"val/{name}": val, f"gap/{name}": val - train if lower else train - val}


def _both_sides(name: str, fitted: Estimated, new: Estimated, lower: bool) -> dict[str, Tensor]:
    first, second = (new, fitted) if lower else (fitted, new)
    low, high = difference(first, second)
    metrics = {f"train/{name}": fitted.value, f"val/{name}": new.value, f"val/{name}_se": new.error}
    return metrics | {f"gap/{name}": first.value - second.value, f"gap/{name}_low": low, f"gap/{name}_high": high}


def one_part(
    part: str, measured: Side, task: Task | str, level: float = 0.95, scores: Sequence[AnyScore] = ()
) -> dict[str, Tensor]:
    """Return ``<part>/loss`` and ``<part>/<score>`` of rows that stand for new ones, by the methods
    of ``gap``.

    Each has a standard error and an interval: ``_se``, ``_low`` and ``_high``.

    Args:
        part: Prefix of the names, such as ``test``.
        measured: The rows.
        task: Which decides loss and score.
        level: Of the intervals, between 0 and 1.
        scores: Names of scores, or the user's own, beside the task's own.

    Returns:
        Metrics by name.
    """
    metrics: dict[str, Tensor] = {}
    for key, each in unless_faultless(estimates(measured, task, level, scores), measured, task).items():
        metrics |= {f"{part}/{key}": each.value, f"{part}/{key}_se": each.error}
        metrics |= {f"{part}/{key}_low": each.low, f"{part}/{key}_high": each.high}
    return metrics
