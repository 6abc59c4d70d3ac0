"""``OwnScore``: a torchmetrics metric that is measured on both sides of the gap."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from reglab.config.instantiate import build
from reglab.core.errors import UserError
from reglab.core.metric_direction import SCORES, declare
from reglab.measures.intervals import Estimated
from reglab.measures.sides import Side
from reglab.tasks import Task


@dataclass(frozen=True)
class OwnScore:
    """A score of the user's. It has no interval: how each row makes it is not known.

    Args:
        name: As in ``val/NAME``.
        higher: Whether a higher value is better.
        key: What tells it from another metric of the same name.
        metric: A ``torchmetrics.Metric``. It gets probabilities where the task has them, otherwise
            the outputs (a regression's as it is trained on), and the targets.
    """

    name: str
    higher: bool
    key: str
    metric: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.name

    def estimate(self, measured: Side, task: Task) -> Estimated:
        """Return the score of the rows, ``[...]``, without an interval."""
        outputs, targets = measured.outputs, measured.targets
        assert outputs is not None
        assert targets is not None
        if measured.statistics.dim() == 2:
            value = self._value(outputs, targets, task)
        else:
            rows, members = measured.statistics.shape[-1], len(outputs)
            shared = len(targets) == rows and targets.shape[:2] not in ((members, rows), (1, rows))
            several = [targets] * members if shared else targets.expand(members, *targets.shape[1:])
            value = torch.stack([self._value(*pair, task) for pair in zip(outputs, several, strict=True)])
        value = value.to(measured.statistics)
        unknown = torch.full_like(value, torch.nan)
        return Estimated(value, unknown, unknown, unknown)

    def _value(self, outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
        metric = self.metric.to(outputs.device)
        metric.reset()
        try:
            metric.update(*task.for_metrics(outputs, targets))
            value: Tensor = torch.as_tensor(metric.compute())
        except (ValueError, RuntimeError, TypeError) as error:
            raise UserError(
                f"measure.scores: {self.name} fails on probabilities or outputs {list(outputs.shape)} and targets "
                f"{list(targets.shape)} of a {task.name} task ({error})"
            ) from error
        if value.dim():
            raise UserError(
                f"measure.scores: {self.name} is {list(value.shape)} values, and a score is one; such metrics take "
                "average=macro"
            )
        return value


AnyScore = str | OwnScore
"""A score's name, or one of the user's."""


def own_score(given: object) -> OwnScore:
    """Return the score that the user gives.

    Args:
        given: A ``torchmetrics.Metric``, or a config node of its ``_target_`` and arguments, beside
            which ``name`` and ``higher`` may stand.

    Raises:
        UserError: For anything else, and where the metric does not say which direction is better.
    """
    from torchmetrics import Metric

    name, higher, key = None, None, ""
    if isinstance(given, Mapping):
        key = repr(sorted(given.items(), key=str))
        name, higher = given.get("name"), given.get("higher")
        node = {part: value for part, value in given.items() if part not in ("name", "higher")}
        metric: Any = build(node, Metric, "measure.scores")  # type: ignore[type-abstract]  # subclasses are built
    else:
        metric = given
    if not isinstance(metric, Metric):
        raise UserError(
            f"measure.scores holds {given!r}, which is neither the name of a score nor a torchmetrics.Metric"
        )
    metric.sync_on_compute = metric._to_sync = False  # each rank has all rows
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(metric).__name__).lower() if name is None else str(name)
    higher = metric.higher_is_better if higher is None else higher
    if not isinstance(higher, bool):
        raise UserError(f"measure.scores: {name} does not say whether higher is better: add higher: true or false")
    if name in SCORES or name == "loss" or not name.isidentifier():
        raise UserError(f"measure.scores: {name!r} is taken or no name: give another, name: my_{name}")
    declare(name, higher)
    return OwnScore(name, higher, key or repr(metric), metric)
