"""A model in training as measures see it (``reglab.measures.Measured``)."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from reglab.distributed.parameters import LocalParameters
from reglab.measures import Evaluation, MeasureSettings, Side, side
from reglab.measures.evaluate import evaluation_mode, one_tensor
from reglab.measures.losses import example_losses
from reglab.measures.measure import Part
from reglab.measures.weights import Whole
from reglab.regularizers import Cocktail
from reglab.regularizers.select import frozen_weights, selected
from reglab.tasks import Task, task_named
from reglab.training.measured_rows import GapRows, GapSide, Rows

if TYPE_CHECKING:
    from reglab.training.measurement import Measurement

Tensors = dict[str, Tensor]


class AsMeasured:
    """What measures see of any model in training, apart from its tensors.

    Args:
        settings: Of the measurement.
        epoch: Counted from 1.
        last: No further epoch is measured, as far as is known.
    """

    members = 1

    def __init__(self, settings: MeasureSettings, epoch: int, last: bool) -> None:
        self.epoch, self.last = epoch, last
        self.level, self.near_zero = settings.level, settings.near_zero
        self.per_layer, self.scores = settings.per_layer, settings.wanted


class MeasuredModel(AsMeasured):
    """A model that trains alone, on one or several ranks: the members' axis has length 1.

    Args:
        measurement: With the measured rows and the weights that distances are from.
        parameters: Of the model.
        cocktail: Which may keep averaged weights.
        epoch: Counted from 1.
        last: No further epoch is measured, as far as is known.
    """

    def __init__(
        self, measurement: "Measurement", parameters: LocalParameters, cocktail: Cocktail, epoch: int, last: bool
    ) -> None:
        super().__init__(measurement.settings, epoch, last)
        self._measurement, self._local, self._cocktail = measurement, parameters, cocktail

    @property
    def model(self) -> nn.Module:
        return self._local.model

    @property
    def task(self) -> Task:
        return task_named(self._rows.task)

    @property
    def frozen(self) -> int:
        return frozen_weights(self._local.model)  # whole ones, also where they are sharded

    @property
    def shards(self) -> Whole | None:
        return self._local.shards

    @cached_property
    def weights(self) -> Tensors:
        if self._cocktail.averages_apart:
            return _stacked(weights_of(self._local))
        with self._cocktail.evaluating(self._local.hook_target):
            return {name: weight.clone() for name, weight in _stacked(weights_of(self._local)).items()}

    @cached_property
    def averaged(self) -> Tensors | None:
        if not (self._cocktail.averages and self._cocktail.averages_apart):
            return None
        with self._cocktail.evaluating(self._local.hook_target):
            return {name: weight.clone() for name, weight in _stacked(weights_of(self._local)).items()}

    @property
    def initial(self) -> Tensors:
        return _stacked(self._measurement.history.initial)

    @property
    def previous(self) -> Tensors:
        return _stacked(self._measurement.history.previous)

    def whole(self, name: str) -> Tensor:
        return self._local.whole(name, self.weights[name][0]).unsqueeze(0)

    @cached_property
    def parameters(self) -> Tensors:
        return _stacked(self._judged[0])

    @cached_property
    def _judged(self) -> tuple[Tensors, Tensors]:
        """The parameters that the run is judged by, and the buffers that are averaged with them."""
        with self._cocktail.evaluating(self._local.hook_target):
            weights = {name: weight.detach().clone() for name, weight in self._local.weights.items()}
            model = self._local.model
            return weights, {name: model.get_buffer(name).clone() for name in self._cocktail.statistics}

    @property
    def _rows(self) -> GapRows:
        rows = self._measurement.rows
        assert rows is not None  # a measure that needs rows is refused where there are none
        return rows

    def _part(self, part: Part) -> GapSide:
        return self._rows.probe if part == "train" else self._rows.val

    def count(self, part: Part) -> int:
        return self._part(part).targets.length

    def side(self, part: Part) -> Side:
        evaluation, of = self._measurement.evaluated(self._local, self._cocktail)[part == "val"], self._part(part)
        stacked = Evaluation(evaluation.losses.unsqueeze(0), evaluation.outputs.unsqueeze(0), evaluation.targets)
        weights = None if of.weights is None else of.weights.values
        units = None if self._rows.units is None else self._rows.units[0]
        made = side(stacked, self._rows.task, of.left, weights, units)
        return made._replace(targets=None if made.targets is None else made.targets.unsqueeze(0))

    def clean(self) -> tuple[Tensor, Tensor] | None:
        if self._rows.clean is None or self._rows.corrupted is None:
            return None
        train = self._measurement.evaluated(self._local, self._cocktail)[0]
        losses = example_losses(train.outputs, self._rows.clean.values, self.task)
        return losses.unsqueeze(0), self._rows.corrupted.values.unsqueeze(0)

    def inputs(self, part: Part, rows: Tensor | None = None) -> Tensor:
        inputs = self._part(part).inputs
        if isinstance(inputs, Rows):
            return (inputs.values if rows is None else inputs.values[rows]).unsqueeze(0)
        wanted = torch.arange(len(inputs)) if rows is None else rows.cpu()
        return next(iter(inputs.read([wanted]))).unsqueeze(0)

    def targets(self, part: Part, rows: Tensor | None = None) -> Tensor:
        values = self._part(part).targets.values
        return (values if rows is None else values[rows]).unsqueeze(0)

    def outputs(self, part: Part, rows: Tensor | None = None, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        model, (weights, buffers) = self._local.model, self._judged
        state = {**weights, **buffers, **{name: value[0] for name, value in (parameters or {}).items()}}
        inputs = self.inputs(part, rows)[0]
        with evaluation_mode(model), torch.compiler.set_stance("force_eager"):
            return one_tensor(functional_call(model, state, (inputs,)), model).unsqueeze(0)

    def losses(self, part: Part, rows: Tensor | None = None, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        outputs, targets = self.outputs(part, rows, parameters), self.targets(part, rows)[0]
        return self.task.losses(self.task.align(outputs, targets), targets)


def weights_of(parameters: LocalParameters) -> Tensors:
    """Return what counts as weights, by name."""
    return {name: weight.detach() for name, weight in selected(parameters.hook_target, "weights")}


def _stacked(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: tensor.unsqueeze(0) for name, tensor in tensors.items()}
