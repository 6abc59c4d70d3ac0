"""Measure after an epoch: audited gap, weight statistics, memorized label noise."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reglab.data import DataSet
from reglab.distributed.collectives import evaluate_on_all_ranks
from reglab.distributed.parameters import LocalParameters, as_local_parameters
from reglab.measures import (
    Evaluation,
    MeasureSettings,
    evaluate,
    example_losses,
    gap,
    probe_rows,
    probe_size,
    side,
    weight_statistics,
)
from reglab.measures.evaluate import evaluation_mode
from reglab.measures.losses import aligned
from reglab.measures.scores import decided
from reglab.regularizers import Cocktail
from reglab.regularizers.select import selected
from reglab.training.checkpoint_constants import Unchanged


class Measurement:
    """Measures one model repeatedly on a fixed probe of the training part and on the validation
    part.

    Both sides go through one function, in evaluation mode, with the same weights, on the targets as
    they were trained on but neither mixed nor smoothed.

    Attributes:
        evaluations: Of the probe and of the validation rows, when the gap was last measured.
    """

    evaluations: tuple[Evaluation, Evaluation] | None = None

    def __init__(
        self, data: DataSet, settings: MeasureSettings, device: torch.device, dtype: torch.dtype, ranks: int = 1
    ) -> None:
        rows = probe_rows(len(data.train), probe_size(len(data.train), len(data.val), settings.probe_rows), seed=0)
        probe = data.train
        self.task = data.task
        self.settings = settings
        self.ranks = ranks
        self.probe = _moved(probe.inputs[rows], device, dtype), _moved(probe.targets[rows], device, dtype)
        self.val = _moved(data.val.inputs, device, dtype), _moved(data.val.targets, device, dtype)
        self.corrupted = probe.corrupted[rows].to(device) if bool(probe.corrupted.any()) else None
        self.clean = _moved(probe.clean_targets[rows], device, dtype)
        self.probe_left = 1 - len(rows) / len(data.train)
        self.probe_weights = self.val_weights = self.units = None
        if data.weighted:
            self.probe_weights, self.val_weights = probe.weights[rows].to(device), data.val.weights.to(device)
        if data.target_scale is not None:
            self.units = data.target_scale.to(device, dtype)
        self.initial: dict[str, Tensor] = {}
        self.previous: dict[str, Tensor] = {}

    def begin(
        self, model: nn.Module | LocalParameters, state: Mapping[str, Mapping[str, Tensor]] | None = None
    ) -> None:
        """Remember the initial weights, which distances are measured from; ``state`` is that of a
        resumed run.
        """
        parameters = as_local_parameters(model)
        self.initial = self.previous = now = _copies(parameters.hook_target)
        if state is not None:
            self.initial, self.previous = (
                {
                    name: parameters.shard_of(name, state[when][name]).to(weight.device)
                    if name in state[when]
                    else weight
                    for name, weight in now.items()
                }
                for when in ("initial", "previous")
            )

    def state(self, parameters: LocalParameters) -> dict[str, dict[str, Tensor]]:
        """Return the state that ``begin`` resumes from, with whole tensors.

        A collective where ``parameters`` is sharded.

        ``previous`` is empty where those are the weights as they are: after an epoch that was
        measured.
        """
        initial, previous = (
            {name: parameters.for_checkpoint(name, weight) for name, weight in weights.items()}
            for weights in (self.initial, {} if self._is_measured(parameters) else self.previous)
        )
        return {"initial": Unchanged(initial), "previous": previous}

    def _is_measured(self, parameters: LocalParameters) -> bool:
        """Return whether the weights are those that were measured last; no rank knows that of a
        sharded whole.
        """
        now = dict(selected(parameters.hook_target, "weights"))
        return parameters.shards is None and all(
            torch.equal(weight, now[name]) for name, weight in self.previous.items()
        )

    def gap(self, model: nn.Module | LocalParameters, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the audited gap, its sides and its intervals, of the weights that the run is
        judged by.

        Where there are several ranks, each computes a part of the rows, and all have every answer.
        """
        parameters, evaluate_rows = as_local_parameters(model), evaluate_on_all_ranks if self.ranks > 1 else evaluate
        parameters.reshard()
        with cocktail.evaluating(parameters.hook_target):
            with evaluation_mode(parameters.model):  # once for both sides
                train = evaluate_rows(parameters.model, *self.probe, self.task)
                val = evaluate_rows(parameters.model, *self.val, self.task)
            parameters.reshard()
        self.evaluations = train, val
        fitted = side(train, self.task, self.probe_left, self.probe_weights, self.units)
        new = side(val, self.task, 1.0, self.val_weights, self.units)
        metrics = gap(fitted, new, self.task, self.settings.level, self.settings.wanted)
        return metrics | self._memorization(train)

    def _memorization(self, train: Evaluation) -> dict[str, Tensor]:
        """Return how far label noise was learnt: the corrupted rows fitted, and the training loss
        without the noise.
        """
        if self.corrupted is None:
            return {}
        metrics = {"memorization/clean_loss": example_losses(train.outputs, self.clean, self.task).mean()}
        if self.task in ("classification", "binary"):
            fitted = decided(aligned(train.outputs, train.targets, self.task), self.task) == train.targets
            metrics["memorization/fitted"] = fitted[self.corrupted].double().mean()
        return metrics

    def weights(self, model: nn.Module | LocalParameters, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the weight statistics; those of averaged weights apart, since averaging un-zeros
        them.
        """
        parameters = as_local_parameters(model)
        weights = dict(selected(parameters.hook_target, "weights"))
        metrics = self._statistics(weights, parameters, self.settings.per_layer)
        if cocktail.averages:
            with cocktail.evaluating(parameters.hook_target):
                averaged = self._statistics(
                    dict(selected(parameters.hook_target, "weights")), parameters, per_layer=False
                )
            metrics |= {key.replace("/all/", "/averaged/"): value for key, value in averaged.items()}
        self.previous = {name: weight.detach().clone() for name, weight in weights.items()}
        return metrics

    def _statistics(
        self, weights: Mapping[str, Tensor], parameters: LocalParameters, per_layer: bool
    ) -> dict[str, Tensor]:
        near, shards = self.settings.near_zero, parameters.shards
        with torch.no_grad():
            return weight_statistics(weights, self.initial, self.previous, near, per_layer, whole=shards)


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in selected(model, "weights")}


def _moved(values: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return values.to(device, dtype if values.is_floating_point() else values.dtype)
