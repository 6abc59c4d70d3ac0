"""Max-norm: a cap on the norm of each unit's incoming weights."""

import math
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from reglab.regularizers.base import Regularizer
from reglab.regularizers.select import kind_of, selected
from reglab.regularizers.units import ROWS, Incoming, incoming


class MaxNorm(Regularizer):
    """Keep ``||w_unit||_2 <= strength`` for each unit's incoming weights, by projection after every
    update.

    A unit is an output of Linear, Bilinear or Conv, an output channel of ConvTranspose (of all
    inputs in its group), a row of an Embedding, one gate of one unit of an RNN, LSTM or GRU
    (weights from the inputs and from the state apart), a feature of the query, key or value of
    MultiheadAttention. Under weight normalization it is the magnitude that is capped. Biases,
    normalizations and the like are free, also where ``where`` selects them.

    Args:
        strength: The largest norm, > 0; smaller regularizes more, infinity not at all. Usual
            values: 1 to 4.

    Source:
        Srebro & Shraibman (2005), Rank, trace-norm and max-norm; Srivastava et al. (2014), Dropout.
    """

    neutral: ClassVar[Mapping[str, float] | None] = {"strength": math.inf}
    stronger: ClassVar[int] = -1
    strength: Tensor

    def __init__(self, strength: float = 3.0, where: str = "weights") -> None:
        super().__init__()
        if strength == 0:
            raise ValueError("strength (the largest norm) must be > 0, got 0: it would set every weight to zero")
        self.hyper(strength=strength, minimum=0, finite=False)
        self.where = where
        self.units: dict[str, Incoming] | None = None

    def on_model(self, model: nn.Module) -> nn.Module:
        """Find the units.

        Raises:
            ValueError: For a selected weight whose parametrization hides their norms.
        """
        known, self.units = incoming(model), {}
        for name in (name for name, _ in selected(model, self.where) if name in known):
            if (entry := known[name]) is None:
                raise ValueError(
                    f"{name} is parametrized, so its norm is not that of the effective weights; leave it out by "
                    "where=..."
                )
            self.units[entry[0]] = entry[1]
        return model

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        units = self._rows(model) if self.units is None else self.units
        for name, weight in selected(model, "all"):
            if how := units.get(name):
                first = self.keys.first_row(weight)
                weight.copy_(how.capped(weight, self.strength, first, self.total))

    def _rows(self, model: nn.Module) -> dict[str, Incoming]:
        """Return what is capped of a model that ``on_model`` was not called with."""
        weights = selected(model, self.where)
        return {name: ROWS for name, weight in weights if kind_of(model, name, weight) == "weight"}
