"""The measures that are taken where none are named: gap, weights, memorized label noise."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from reglab.measures.gap import gap
from reglab.measures.measure import Measure, Measured, Need
from reglab.measures.weights import weight_statistics


class Gap(Measure):
    """Losses and scores of both sides and the gap between them, with intervals (see
    ``reglab.measures.gap``), at each measured epoch: runs are judged by it.
    """

    def __init__(self) -> None:
        super().__init__()

    needs: ClassVar[frozenset[Need]] = frozenset()  # a LightningModule's is measured by its own steps
    charts = ("train/loss", "val/loss", "gap/loss")

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return gap(of.side("train"), of.side("val"), of.task, of.level, of.scores)


class Memorization(Measure):
    """How far label noise was learnt: the corrupted rows fitted, and the training loss without the
    noise. Nothing where the data have none (``data.label_noise``).

    Args:
        every: As for ``Measure``.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()  # without noise there is nothing to measure
    charts = ("memorization/*",)

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        noise = of.clean()
        if noise is None:
            return {}
        losses, corrupted = noise
        metrics = {"memorization/clean_loss": losses.mean(-1)}
        if of.task.classes:
            fitted = of.side("train").statistics[1].double()
            metrics["memorization/fitted"] = (fitted * corrupted).sum(-1) / corrupted.sum(-1)
        return metrics


class Weights(Measure):
    """Norms, spread, zeros, distance and update of the weights (see ``weight_statistics``); those of
    averaged weights apart, since averaging un-zeros them. ``weights/all/frozen`` counts the weights
    that do not train, where there are some: all others leave them out.

    Args:
        every: As for ``Measure``.
    """

    needs = frozenset({"weights"})
    charts = ("weights/all/l2", "weights/all/zeros", "weights/all/distance")

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        metrics = _statistics(of, of.weights, of.per_layer)
        if of.averaged is not None:
            averaged = _statistics(of, of.averaged, per_layer=False)
            metrics |= {key.replace("/all/", "/averaged/"): value for key, value in averaged.items()}
        if metrics and of.frozen:
            metrics["weights/all/frozen"] = torch.full_like(metrics["weights/all/l2"], of.frozen)
        return metrics


def _statistics(of: Measured, weights: Mapping[str, Tensor], per_layer: bool) -> dict[str, Tensor]:
    with torch.no_grad():
        return weight_statistics(
            weights, of.initial, of.previous, of.near_zero, per_layer, stacked=True, whole=of.shards
        )


def default_measures() -> dict[str, Measure]:
    """Return the measures that are taken where none are named, by name."""
    return {"gap": Gap(), "weights": Weights(), "memorization": Memorization()}
