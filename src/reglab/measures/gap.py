"""The audited gap between training and validation, with intervals over examples in closed form."""

from typing import NamedTuple

import torch
from torch import Tensor

from reglab.measures.evaluate import Evaluation
from reglab.measures.facts import Scale, facts_of, losses_of, point_score, ratios_without, scale
from reglab.measures.intervals import Estimated, difference, log_interval, mean_interval, share_interval
from reglab.measures.losses import Task
from reglab.measures.scores import score_name


class Side(NamedTuple):
    """Rows that were measured.

    facts: what ``row_facts`` says of them, ``[facts, ..., rows]``. scale: of their targets. left: the share of their
    population that was not measured: 1 where they stand for new rows, ``1 - measured / rows`` for a probe of the
    training rows, 0 where every row was measured and nothing is left to chance.
    """

    facts: Tensor
    scale: Scale
    left: float = 1.0


def side(evaluation: Evaluation, task: Task, left: float = 1.0) -> Side:
    """Return a model's answers, or those of some models on the same rows, as a side of a gap."""
    facts = facts_of(evaluation, task)
    given = scale(evaluation.targets.to(facts.dtype), task)
    for _ in range(facts.dim() - 2):
        given = Scale(*(field.unsqueeze(1) for field in given))
    return Side(facts, given, left)


def gap(train: Side, val: Side, task: Task, level: float = 0.95) -> dict[str, Tensor]:
    """Return losses, scores and their gaps, positive where the model overfits, with intervals at ``level``.

    ``gap/loss = val/loss - train/loss`` and ``gap/<score> = train/<score> - val/<score>``, each with ``_low`` and
    ``_high``. ``val/loss_se`` and ``val/<score>_se`` are standard errors over the validation examples.

    What an interval is of: the expected loss of **new rows** minus the mean loss over the **actual training set**, the
    model fixed. It says how far the gap would move with other validation examples, and with another probe of the
    training rows; not with another seed or training sample. Where the probe is the whole training part, that side is
    exact. Examples count as independent: where they come in groups, it is too narrow.

    Each side has an interval of its own (see ``estimates``), that of the training side narrowed by what of it was
    measured; the two are put together as in Newcombe's interval. The loss has none, NaN, where no validation row is
    decided wrongly.

    Shapes: 0-dim, or ``[members]`` where facts are ``[facts, members, rows]``.
    """
    of_val = estimates(val, task, level)
    of_train = estimates(train, task, level) if train.left else exact(train, task)
    of_val["loss"] = unless_faultless(of_val["loss"], val, task)
    found: dict[str, Tensor] = {}
    for key in ("loss", score_name(task)):
        fitted, new = of_train[key], of_val[key]
        if train.left:
            fitted = fitted.of_a_part(train.left)
        first, second = (new, fitted) if key == "loss" else (fitted, new)
        low, high = difference(first, second)
        found |= {f"train/{key}": fitted.value, f"val/{key}": new.value, f"val/{key}_se": new.error}
        found |= {f"gap/{key}": first.value - second.value, f"gap/{key}_low": low, f"gap/{key}_high": high}
    return found


def one_part(part: str, measured: Side, task: Task, level: float = 0.95) -> dict[str, Tensor]:
    """Return ``<part>/loss`` and ``<part>/<score>`` of rows that stand for new ones, by the methods of ``gap``.

    Each has a standard error and an interval: ``_se``, ``_low`` and ``_high``.
    """
    found: dict[str, Tensor] = {}
    estimated = estimates(measured, task, level)
    estimated["loss"] = unless_faultless(estimated["loss"], measured, task)
    for key, each in estimated.items():
        found |= {f"{part}/{key}": each.value, f"{part}/{key}_se": each.error}
        found |= {f"{part}/{key}_low": each.low, f"{part}/{key}_high": each.high}
    return found


def estimates(measured: Side, task: Task, level: float) -> dict[str, Estimated]:
    """Return loss and score of a part as estimates of what they are on new rows.

    - loss: Hall's cubic t interval.
    - accuracy: Wilson's interval; of several labels, with as many rows as their shares are worth.
    - r2: the jackknife of ``log(1 - r2)``. None where the targets are constant or fitted perfectly.
    """
    loss = mean_interval(losses_of(measured.facts, task), level)
    loss = loss._replace(low=loss.low.clamp(min=0))
    if task == "regression":
        value = point_score(measured.facts, measured.scale, task)
        missing = log_interval(1 - value, ratios_without(measured.facts, measured.scale), level)
        return {"loss": loss, "r2": Estimated(value, missing.error, 1 - missing.high, 1 - missing.low)}
    shares = measured.facts[1]
    return {"loss": loss, "accuracy": share_interval(shares, level)}


def exact(measured: Side, task: Task) -> dict[str, Estimated]:
    """Return loss and score of a part of which every row was measured, and which stands for itself."""
    values = {"loss": losses_of(measured.facts, task).mean(-1)}
    values[score_name(task)] = point_score(measured.facts, measured.scale, task)
    return {key: Estimated(value, torch.zeros_like(value), value, value) for key, value in values.items()}


def unless_faultless(loss: Estimated, measured: Side, task: Task) -> Estimated:
    """Return ``loss`` without an interval where no row was decided wrongly.

    Nothing then tells how much a wrong one costs, and no interval of the loss covers: see docs/intervals.md.
    """
    return loss if task == "regression" else loss.unless((measured.facts[1] == 1).all(-1))
