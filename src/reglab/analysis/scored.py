"""Per-example results of a run as values to be minimized, with their noise."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reglab.analysis.paired import Scored
from reglab.analysis.per_example_file import Examples
from reglab.core.metric_direction import OF_TASKS, lower_is_better


class Side(NamedTuple):
    """What a predictor reached on the validation rows.

    Attributes:
        rows: Their indices, ``[rows]``.
        loss: ``[rows]``.
        score: Terms whose mean is the task's score, ``[rows]``.
        monitor: Terms whose mean is ``measure.monitor``, ``[rows]``; None where that is one of the
            others.
    """

    rows: NDArray[np.int64]
    loss: NDArray[np.floating]
    score: NDArray[np.floating]
    monitor: NDArray[np.floating] | None


Reader = Callable[[Side], Scored | None]
"""From one predictor's results to a metric's value, as a number to be minimized."""


def val(results: Examples) -> Side:
    """Return what a run's model reached."""
    return Side(results.val_index, results.val_loss, results.val_score, results.val_monitor)


def constant(results: Examples) -> Side | None:
    """Return what the constant predictor reaches on a run's validation rows; None if not recorded.

    It predicts the same for every row: the shares of the classes, or the mean target, in the
    training part.
    """
    if results.val_constant_loss is None or results.val_constant_score is None:
        return None
    return Side(results.val_index, results.val_constant_loss, results.val_constant_score, results.val_constant_monitor)


def reader_of(metric: str, monitor: str | None = None) -> Reader:
    """Return the function from one predictor's results to a validation metric, to be minimized.

    Args:
        metric: Such as ``val/loss``. The function returns None where the results do not hold it.
        monitor: The metric that decided in the runs, which tells the two apart that results may hold of
            a task of several targets; None: ``metric``.
    """
    name, sign = metric.removeprefix("val/"), 1.0 if lower_is_better(metric) else -1.0

    def read(side: Side) -> Scored | None:
        of_score = name in OF_TASKS or ("/" in name and (side.monitor is None or monitor not in (None, metric)))
        terms = side.loss if name == "loss" else side.score if of_score else side.monitor
        if terms is None or not np.isfinite(terms).all():
            return None
        noise = sign * terms.astype(np.float64)
        return Scored(("",), side.rows, np.array([noise.mean()]), noise[None])

    return read


def gap(results: Examples) -> Scored:
    """Return the gap in loss, ``mean val_loss - mean probe_loss``.

    Its noise is that of two independent samples; the probe's is smaller by the factor
    ``1 - probe / train``, since the training side is the mean over the actual training part.
    """
    val, probe = (np.asarray(one, np.float64) for one in (results.val_loss, results.probe_loss))
    count = len(val) + len(probe) - 1
    unseen = 1.0 if results.train_rows is None else max(0.0, 1 - len(probe) / int(results.train_rows))
    noise = np.concatenate(
        [
            (val - val.mean()) * (math.sqrt(count) / len(val)),
            (probe - probe.mean()) * (math.sqrt(count * unseen) / len(probe)),
        ]
    )
    rows = np.concatenate([results.val_index, -1 - results.probe_index])
    return Scored(("",), rows, np.array([val.mean() - probe.mean()]), noise[None], unit_variance=True)
