"""Max-norm: a cap on the norm of each unit's incoming weights."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from reglab.regularizers.base import Regularizer
from reglab.regularizers.select import selected


def cap_rows(weight: Tensor, limit: Tensor) -> Tensor:
    """Return ``weight`` [units, ...] with each unit's incoming weights projected onto the ball of radius ``limit``."""
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    scale = (limit.to(weight.dtype) / norms).clamp(max=1).nan_to_num(nan=1.0)
    capped: Tensor = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return capped


class MaxNorm(Regularizer):
    """Keep ``||w_unit||_2 <= strength`` for each unit's incoming weights, by projection after every update.

    strength: the largest norm, > 0; smaller regularizes more, infinity not at all. Usual values: 1 to 4.
    Source: Srebro & Shraibman (2005), Rank, trace-norm and max-norm; Srivastava et al. (2014), Dropout.
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

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        for _, weight in selected(model, self.where):
            if weight.ndim >= 2:  # a bias is no unit's incoming weights
                weight.copy_(cap_rows(weight, self.strength))
