"""Measure finished models on tensors in memory, outside any training."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from reglab.core.errors import UserError
from reglab.measures.evaluate import evaluation_mode, evaluation_of, one_tensor
from reglab.measures.measure import Measure, Part
from reglab.measures.own_scores import AnyScore
from reglab.measures.sides import Side, side
from reglab.measures.weights import Whole
from reglab.tasks import Task, task_named

Rows = tuple[Tensor, Tensor]


class OfModels:
    """Finished models of one architecture, as measures see them (see ``Measured``).

    Args:
        models: On one device.
        train: Inputs ``[rows, ...]`` and targets ``[rows, ...]``.
        val: The same.
        task: Which decides the loss.
        initial: State dicts before training, of each model; None: what the models are.
        weights: Names of the parameters that count as weights; None: those of two or more axes.
    """

    epoch, last, per_layer = 1, True, True
    shards: Whole | None = None
    averaged: Mapping[str, Tensor] | None = None

    def __init__(
        self,
        models: Sequence[nn.Module],
        train: Rows,
        val: Rows,
        task: Task | str,
        initial: Sequence[Mapping[str, Tensor]] | None = None,
        weights: Sequence[str] | None = None,
        *,
        level: float = 0.95,
        near_zero: float = 1e-3,
        scores: tuple[AnyScore, ...] = (),
    ) -> None:
        self.model, self.members, self.task = models[0], len(models), task_named(task)
        self.level, self.near_zero, self.scores = level, near_zero, scores
        self._rows: dict[str, Rows] = {"train": train, "val": val}
        each = [{name: p.detach() for name, p in model.named_parameters() if p.requires_grad} for model in models]
        self.parameters = {name: torch.stack([own[name] for own in each]) for name in each[0]}
        frozen = [{name: p.detach() for name, p in model.named_parameters() if not p.requires_grad} for model in models]
        others = [own | dict(model.named_buffers()) for own, model in zip(frozen, models, strict=True)]
        self._others = {name: torch.stack([own[name] for own in others]) for name in others[0]}
        self.frozen = sum(p.numel() for p in frozen[0].values() if p.dim() > 1)
        names = [name for name, p in each[0].items() if p.dim() > 1] if weights is None else weights
        self.weights = {name: self.parameters[name] for name in names}
        begun = each if initial is None else initial
        self.initial = self.previous = {name: torch.stack([own[name].detach() for own in begun]) for name in names}

    def whole(self, name: str) -> Tensor:
        return self.weights[name]

    def count(self, part: Part) -> int:
        return len(self._rows[part][1])

    def inputs(self, part: Part, rows: Tensor | None = None) -> Tensor:
        values = self._rows[part][0]
        return (values if rows is None else values[rows]).unsqueeze(0)

    def targets(self, part: Part, rows: Tensor | None = None) -> Tensor:
        values = self._rows[part][1]
        return (values if rows is None else values[rows]).unsqueeze(0)

    def clean(self) -> tuple[Tensor, Tensor] | None:
        return None

    def side(self, part: Part) -> Side:
        return self._sides[part]

    @cached_property
    def _sides(self) -> dict[str, Side]:
        with torch.no_grad():
            return {part: side(evaluation_of(self.outputs(part), self._rows[part][1], self.task), self.task)
                    for part in ("train", "val")}  # fmt: skip

    def outputs(self, part: Part, rows: Tensor | None = None, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        inputs = self.inputs(part, rows)[0]

        def forward(state: dict[str, Tensor]) -> Tensor:
            return one_tensor(functional_call(self.model, state, (inputs,)), self.model)

        state = self._others | self.parameters | dict(parameters or {})
        with evaluation_mode(self.model):
            if self.members == 1:
                return forward({name: value[0] for name, value in state.items()}).unsqueeze(0)
            return vmap(forward)(state)

    def losses(self, part: Part, rows: Tensor | None = None, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        outputs, targets = self.outputs(part, rows, parameters), self.targets(part, rows)[0]
        return self.task.losses(self.task.align(outputs, targets), targets)


def measured(of: OfModels, measures: Mapping[str, Measure]) -> dict[str, Tensor]:
    """Return the numbers of some measures by name, ``[members]``.

    Args:
        of: The models.
        measures: By name.

    Raises:
        UserError: For a measure that does not fit the task.
    """
    metrics: dict[str, Tensor] = {}
    for name, each in measures.items():
        try:
            each.check(of.task)
        except UserError as error:
            raise UserError(f"measure={name}: {error}") from None
        metrics |= each.measure(of, {})
    return metrics
