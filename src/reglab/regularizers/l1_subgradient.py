"""L1 as a term of the loss: never reaches exact zeros."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from reglab.regularizers.base import Regularizer
from reglab.regularizers.select import chosen


class L1Subgradient(Regularizer):
    """Add ``strength * sum |w|`` to the loss and follow its subgradient ``strength * sign(w)``.

    Weights end up jittering about zero and are never exactly zero: it stands here to be compared
    with ``l1``.

    Args:
        strength: Per weight, >= 0, on the scale of ``l1``.

    Source:
        Tibshirani (1996), Regression shrinkage and selection via the lasso.
    """

    separable: ClassVar[bool] = True
    strength: Tensor

    def __init__(self, strength: float = 1e-4, where: str = "weights") -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0)
        self.where = where

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor | None:
        norms = [weight.abs().sum() for _, weight in chosen(weights, self.where)]
        return self.strength * torch.stack(norms).sum() if norms else None
