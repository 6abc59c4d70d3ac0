"""The initial weights, and those of the last measurement."""

from collections.abc import Mapping, Sequence

from torch import Tensor

Tensors = dict[str, Tensor]


class WeightHistory:
    """Keeps the weights that distances and updates are measured from.

    Args:
        stacked: Whether weights are those of the members of a pack, ``[members, ...]``.

    Attributes:
        initial: Weights that distances are from.
        previous: Weights of the last measurement, which updates are from.
    """

    def __init__(self, stacked: bool = False) -> None:
        self._stacked = stacked
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
