"""Weight statistics against the initial weights and those of the last measurement."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from reglab.measures import MeasureSettings, weight_statistics
from reglab.measures.weights import Whole

Tensors = dict[str, Tensor]


class WeightHistory:
    """Keeps the weights that distances and updates are measured from.

    Args:
        settings: Of the measurement.
        stacked: Whether weights are those of the members of a pack, ``[members, ...]``.

    Attributes:
        initial: Weights that distances are from.
        previous: Weights of the last measurement, which updates are from.
    """

    def __init__(self, settings: MeasureSettings, stacked: bool = False) -> None:
        self._settings, self._stacked = settings, stacked
        self.initial: Tensors = {}
        self.previous: Tensors = {}

    def begin(self, weights: Mapping[str, Tensor], state: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        """Start from ``weights``, or from the state of a resumed run.

        Args:
            weights: By name.
            state: ``initial`` and ``previous``; a weight that is not there is as it is now.
        """
        self.initial = self.previous = now = {name: weight.detach().clone() for name, weight in weights.items()}
        if state is not None:
            self.initial, self.previous = (
                {name: state[when][name].to(weight.device, copy=True) if name in state[when] else weight
                 for name, weight in now.items()}
                for when in ("initial", "previous")
            )  # fmt: skip

    def statistics(self, weights: Mapping[str, Tensor], whole: Whole | None = None, averaged: bool = False) -> Tensors:
        """Return the statistics of weights.

        Args:
            weights: By name.
            whole: Adds up over the ranks that have shards.
            averaged: Whether they are averages, whose statistics stand apart, since averaging
                un-zeros them.
        """
        near_zero, per_layer = self._settings.near_zero, self._settings.per_layer and not averaged
        with torch.no_grad():
            metrics = weight_statistics(
                weights, self.initial, self.previous, near_zero, per_layer, stacked=self._stacked, whole=whole
            )
        return {key.replace("/all/", "/averaged/"): value for key, value in metrics.items()} if averaged else metrics

    def remember(self, weights: Mapping[str, Tensor]) -> None:
        """Measure later updates from these weights."""
        if self._stacked and self.previous is not self.initial:  # in place: a pack's weights are large
            for name, weight in weights.items():
                self.previous[name].copy_(weight)
        else:
            self.previous = {name: weight.detach().clone() for name, weight in weights.items()}

    def keep(self, members: Sequence[int]) -> None:
        """Keep these members only."""
        self.initial, self.previous = (
            {name: weight[list(members)] for name, weight in weights.items()}
            for weights in (self.initial, self.previous)
        )
