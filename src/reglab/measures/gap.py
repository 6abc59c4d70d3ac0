"""The audited gap between training and validation, with confidence intervals in closed form."""

from collections.abc import Sequence

from torch import Tensor

from reglab.core.metric_direction import lower_is_better
from reglab.measures.estimates import estimates, exact, unless_faultless
from reglab.measures.intervals import difference
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
        first, second = (new, fitted) if lower_is_better(key) else (fitted, new)
        low, high = difference(first, second)
        metrics |= {f"train/{key}": fitted.value, f"val/{key}": new.value, f"val/{key}_se": new.error}
        metrics |= {f"gap/{key}": first.value - second.value, f"gap/{key}_low": low, f"gap/{key}_high": high}
    return metrics


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
