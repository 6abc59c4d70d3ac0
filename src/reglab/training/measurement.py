"""What is measured after an epoch: the audited gap, the weights, and what label noise was memorized."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reglab.data import DataSet
from reglab.measures import (
    Bootstrap,
    Evaluation,
    MeasureSettings,
    evaluate,
    example_losses,
    probe_rows,
    probe_size,
    weight_statistics,
)
from reglab.measures.losses import aligned
from reglab.measures.scores import decided
from reglab.regularizers import Cocktail
from reglab.regularizers.select import selected


class Measurement:
    """Measures one model again and again on the same rows: a fixed probe of the training part, and the validation part.

    Both sides go through one function, in evaluation mode, with the same weights, on the targets as they were trained
    on but neither mixed nor smoothed.
    """

    def __init__(self, data: DataSet, settings: MeasureSettings, device: torch.device, dtype: torch.dtype) -> None:
        rows = probe_rows(len(data.train), probe_size(len(data.train), len(data.val), settings.probe_rows), seed=0)
        probe = data.train
        self.task = data.task
        self.settings = settings
        self.probe = _moved(probe.inputs[rows], device, dtype), _moved(probe.targets[rows], device, dtype)
        self.val = _moved(data.val.inputs, device, dtype), _moved(data.val.targets, device, dtype)
        self.corrupted = probe.corrupted[rows].to(device) if bool(probe.corrupted.any()) else None
        self.clean = _moved(probe.clean_targets[rows], device, dtype)
        self.bootstrap = Bootstrap(len(rows), len(data.val), settings.resamples, 0, settings.level, device)
        self.initial: dict[str, Tensor] = {}
        self.previous: dict[str, Tensor] = {}

    def begin(self, model: nn.Module, state: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        """Remember the initial weights, which distances are measured from; ``state`` is that of a resumed run."""
        self.initial = self.previous = _copies(model)
        if state is not None:
            device = next(model.parameters()).device
            self.initial, self.previous = (
                {name: weight.to(device) for name, weight in state[when].items()} for when in ("initial", "previous")
            )

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return what ``begin`` takes to go on."""
        return {"initial": dict(self.initial), "previous": dict(self.previous)}

    def gap(self, model: nn.Module, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the audited gap, its sides and its intervals, of the weights that the run is judged by."""
        with cocktail.evaluating(model):
            train = evaluate(model, *self.probe, self.task)
            val = evaluate(model, *self.val, self.task)
        metrics = self.bootstrap.gap(train, val, self.task)
        return metrics | self._memorization(train)

    def _memorization(self, train: Evaluation) -> dict[str, Tensor]:
        """Return how far label noise was learnt: the corrupted rows fitted, and the training loss without the noise."""
        if self.corrupted is None:
            return {}
        found = {"memorization/clean_loss": example_losses(train.outputs, self.clean, self.task).mean()}
        if self.task in ("classification", "binary"):
            fitted = decided(aligned(train.outputs, train.targets, self.task), self.task) == train.targets
            found["memorization/fitted"] = fitted[self.corrupted].double().mean()
        return found

    def weights(self, model: nn.Module, cocktail: Cocktail) -> dict[str, Tensor]:
        """Return the weight statistics; those of averaged weights apart, since averaging un-zeros them."""
        found = self._statistics(dict(selected(model, "weights")), self.settings.per_layer)
        if cocktail.averages:
            with cocktail.evaluating(model):
                averaged = self._statistics(dict(selected(model, "weights")), per_layer=False)
            found |= {key.replace("/all/", "/averaged/"): value for key, value in averaged.items()}
        self.previous = _copies(model)
        return found

    def _statistics(self, weights: Mapping[str, Tensor], per_layer: bool) -> dict[str, Tensor]:
        return weight_statistics(weights, self.initial, self.previous, self.settings.near_zero, per_layer)


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in selected(model, "weights")}


def _moved(values: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return values.to(device, dtype if values.is_floating_point() else values.dtype)
