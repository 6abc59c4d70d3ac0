"""Scores of the user's own: torchmetrics, or functions of all outputs and targets."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from reglab.core.errors import UserError
from reglab.core.metric_direction import lower_is_better
from reglab.tasks import Task

MetricOrFunction = Metric | Callable[[Tensor, Tensor], Any]
"""A metric of torchmetrics, or ``(outputs, targets) -> value`` of all rows, 0-dim or ``[rows]``."""


def own_scores(
    scores: Sequence[object] | Mapping[str, MetricOrFunction], task: Task | None
) -> dict[str, MetricOrFunction]:
    """Return the user's own scores by name; none where ``scores`` are names of ours.

    Args:
        scores: As ``Regularize`` gets them.
        task: Of the outputs, whose loss and score have their names.

    Raises:
        UserError: For a name that is taken or none, and for what is no score.
    """
    if not isinstance(scores, Mapping):
        return {}
    taken = {"loss", *((task.score, *task.also) if task else ())}
    for name, score in scores.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise UserError(f"scores: a name has letters, digits and underscores, got {name!r}")
        if name in taken:
            raise UserError(f"scores: {name} is measured already; give yours another name")
        if not callable(score):
            raise UserError(
                f"scores: {name} must be a metric of torchmetrics or a function of (outputs, targets), got {score!r}; "
                "scores of reglab's own are given as a list of names"
            )
    return dict(scores)


def is_lower_better(name: str, score: MetricOrFunction) -> bool:
    """Return whether lower values are better: where ``score.higher_is_better`` is False, or it does
    not say and its name is that of such a score of ours.
    """
    higher = getattr(score, "higher_is_better", None)
    return lower_is_better(name) if higher is None else not higher


class ScoresOfSide:
    """Computes scores of one side of a gap, batch by batch.

    A metric of torchmetrics is updated with each batch of this rank, and adds up over ranks by
    itself; a function gets the outputs of all rows.

    Args:
        scores: By name; they stay as they are.
        device: Of the module.
    """

    def __init__(self, scores: Mapping[str, MetricOrFunction], device: torch.device) -> None:
        self._metrics = {name: _fresh(score, device) for name, score in scores.items() if isinstance(score, Metric)}
        self._functions = {name: score for name, score in scores.items() if name not in self._metrics}

    @property
    def need_all(self) -> bool:
        """Whether one needs the outputs of all rows."""
        return bool(self._functions)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Update metrics with a batch.

        Args:
            outputs: ``[rows, ...]``.
            targets: ``[rows, ...]``.
        """
        for metric in self._metrics.values():
            if len(outputs):
                metric.update(outputs, targets)

    def compute(self, outputs: Tensor | None, targets: Tensor | None) -> dict[str, Tensor]:
        """Return each score, 0-dim or ``[rows]``.

        Args:
            outputs: Of all rows, where they are needed.
            targets: Of all rows.

        Raises:
            UserError: Where a score is something else.
        """
        values = {name: _number(name, metric.compute(), None) for name, metric in self._metrics.items()}
        if outputs is not None and targets is not None:
            for name, function in self._functions.items():
                values[name] = _number(name, function(outputs, targets), len(outputs)).to(outputs.device)
        return values


def _fresh(metric: Metric, device: torch.device) -> Metric:
    fresh = copy.deepcopy(metric).to(device)
    fresh.reset()
    return fresh


def _number(name: str, value: Any, rows: int | None) -> Tensor:
    """Return a score as a tensor, in at least float32."""
    if isinstance(value, (int, float)):
        return torch.tensor(float(value))
    shapes = [(), (rows,)]
    if not isinstance(value, Tensor) or tuple(value.shape) not in shapes:
        what = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        wanted = "one number (of torchmetrics: average='macro')"
        raise UserError(
            f"scores: {name} gave {what}; let it give {wanted if rows is None else f'one number, or [{rows}]'}"
        )
    return value.detach() if value.is_floating_point() and value.dtype.itemsize >= 4 else value.detach().float()
