"""L2 as a term of the loss (Tikhonov, ridge)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from reglab.regularizers.base import Regularizer
from reglab.regularizers.select import chosen


class L2(Regularizer):
    """Add ``strength / 2 * sum w^2`` to the loss: its gradient ``strength * w`` goes through the
    optimizer.

    Under plain SGD it equals ``torch.optim.SGD(weight_decay=strength)``; under Adam its gradient is
    rescaled like any other, which is why ``weight_decay`` and ``weight_decay_fixed`` are methods of
    their own (Loshchilov & Hutter 2019, Decoupled weight decay regularization).

    Args:
        strength: Per weight, >= 0. For a linear model under a mean squared error halved,
            scikit-learn's ``Ridge`` has ``alpha = rows * strength``.

    Source:
        Hoerl & Kennard (1970), Ridge regression.
    """

    separable: ClassVar[bool] = True
    strength: Tensor

    def __init__(self, strength: float = 1e-4, where: str = "weights") -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0)
        self.where = where

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor | None:
        squares = [weight.square().sum() for _, weight in chosen(weights, self.where)]
        return self.strength / 2 * torch.stack(squares).sum() if squares else None
