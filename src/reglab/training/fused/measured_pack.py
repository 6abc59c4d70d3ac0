"""The members of a pack as measures see them (``reglab.measures.Measured``)."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from reglab.measures import Side
from reglab.measures.evaluate import evaluation_mode, one_tensor
from reglab.measures.measure import Part
from reglab.measures.weights import Whole
from reglab.regularizers.select import frozen_weights, selected
from reglab.tasks import Task, task_named
from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import Stack
from reglab.training.measured_model import AsMeasured
from reglab.training.measured_rows import GapSide, Rows

if TYPE_CHECKING:
    from reglab.training.fused.measurement import PackMeasurement

Tensors = dict[str, Tensor]
PREFIX = "model."


class MeasuredPack(AsMeasured):
    """The members of a pack.

    Args:
        measurement: With the measured rows and the weights that distances are from.
        pack: Of the members.
        stacked: Their state.
        job_indices: Of the members.
        epoch: Counted from 1.
        last: No further epoch is measured, as far as is known.
    """

    shards: Whole | None = None

    def __init__(
        self,
        measurement: "PackMeasurement",
        pack: Pack,
        stacked: Stack,
        job_indices: Sequence[int],
        epoch: int,
        last: bool,
    ) -> None:
        super().__init__(measurement.settings, epoch, last)
        self.members = len(job_indices)
        self._measurement, self._pack, self._stacked, self._indices = measurement, pack, stacked, list(job_indices)
        self._sets = measurement.sets[self._indices]

    @property
    def model(self) -> nn.Module:
        return self._pack.base.model

    @property
    def frozen(self) -> int:
        return frozen_weights(self._pack.base)

    @property
    def task(self) -> Task:
        return task_named(self._measurement.rows.task)

    @cached_property
    def _judged(self) -> Tensors:
        return self._pack.evaluation_weights(self._stacked)

    @cached_property
    def weights(self) -> Tensors:
        apart = self._pack.base.cocktail.averages_apart
        return weights_of(self._pack, self._stacked.weights if apart else self._judged)

    @cached_property
    def averaged(self) -> Tensors | None:
        cocktail = self._pack.base.cocktail
        return weights_of(self._pack, self._judged) if cocktail.averages and cocktail.averages_apart else None

    @property
    def initial(self) -> Tensors:
        return self._measurement.history.initial

    @property
    def previous(self) -> Tensors:
        return self._measurement.history.previous

    def whole(self, name: str) -> Tensor:
        return self.weights[name]

    @property
    def parameters(self) -> Tensors:
        trained = [name for name, weight in self.model.named_parameters() if weight.requires_grad]
        return {name: self._judged[PREFIX + name].detach() for name in trained if PREFIX + name in self._judged}

    def _part(self, part: Part) -> GapSide:
        return self._measurement.rows.probe if part == "train" else self._measurement.rows.val

    def count(self, part: Part) -> int:
        return self._part(part).targets.length

    @cached_property
    def _evaluated(self) -> tuple[Tensor, Tensor]:
        return self._measurement.evaluated(self._pack, self._judged, self._sets)

    def side(self, part: Part) -> Side:
        number = int(part == "val")
        return self._measurement.side(number, self._evaluated[number], self._indices)

    def clean(self) -> tuple[Tensor, Tensor] | None:
        return self._measurement.clean(self._evaluated[0], self._sets)

    def inputs(self, part: Part, rows: Tensor | None = None) -> Tensor:
        inputs = self._part(part).inputs
        if isinstance(inputs, Rows):
            values = inputs.all(self._sets)
            return values if rows is None else values[:, rows]
        wanted = torch.arange(len(inputs)) if rows is None else rows.cpu()
        if not inputs.per_member:
            return next(iter(inputs.read([wanted]))).unsqueeze(0)
        used, chosen = torch.unique(self._sets, return_inverse=True)
        each = [next(iter(inputs.read([wanted], number))) for number in used.tolist()]
        return torch.stack(each).index_select(0, chosen)

    def targets(self, part: Part, rows: Tensor | None = None) -> Tensor:
        values = self._part(part).targets.all(self._sets)
        return values if rows is None else values[:, rows]

    def outputs(self, part: Part, rows: Tensor | None = None, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        base, inputs = self._pack.base, self.inputs(part, rows)
        buffers = {name: tensor for name, tensor in self._stacked.buffers.items() if name.startswith(PREFIX)}
        given = {PREFIX + name: value for name, value in (parameters or {}).items()}

        def forward(state: Tensors, values: Tensor) -> Tensor:
            return one_tensor(functional_call(base, state, (lambda member: member.model(values),)), base.model)

        with evaluation_mode(base.model):
            shared = len(inputs) == 1
            run = vmap(forward, in_dims=(0, None if shared else 0))
            return run({**buffers, **self._judged, **given}, inputs[0] if shared else inputs)

    def losses(self, part: Part, rows: Tensor | None = None, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        outputs, targets = self.outputs(part, rows, parameters), self.targets(part, rows)
        if len(targets) == 1:
            return self.task.losses(self.task.align(outputs, targets[0]), targets[0])
        each = zip(outputs, targets, strict=True)
        return torch.stack([self.task.losses(self.task.align(own, wanted), wanted) for own, wanted in each])


def weights_of(pack: Pack, weights: Mapping[str, Tensor]) -> Tensors:
    """Return what ``selected`` calls weights, stacked, by their names in the model.

    Args:
        pack: Of the members.
        weights: Of the members, by their names in the stack.
    """
    return {name: weights[PREFIX + name].detach() for name, _ in selected(pack.base.model, "weights")}
