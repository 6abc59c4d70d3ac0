"""Early stopping: end training when the validation loss no longer improves."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from reglab.regularizers.base import Regularizer


class EarlyStopping(Regularizer):
    """Stop after ``patience`` measured epochs without an improvement of ``val/loss`` by more than
    ``min_delta``.

    The run then stands for the weights of its best epoch. It catches the first descent only: a
    validation loss that would fall a second time is not waited for.

    Args:
        patience: In measured epochs, >= 1; infinity never stops.
        min_delta: In units of the loss, >= 0.

    Source:
        Prechelt (1998), Early stopping - but when?
    """

    neutral: ClassVar[Mapping[str, float] | None] = {"patience": math.inf}
    stronger: ClassVar[int] = -1
    directions: ClassVar[Mapping[str, int]] = {"min_delta": 1}
    claims: ClassVar[frozenset[str]] = frozenset({"stopping"})
    stops: ClassVar[bool] = True
    patience: Tensor
    min_delta: Tensor
    best: Tensor
    waited: Tensor

    def __init__(self, patience: float = 5, min_delta: float = 0.0) -> None:
        super().__init__()
        self.hyper(patience=patience, minimum=1, finite=False)
        self.hyper(min_delta=min_delta, minimum=0)
        self.register_buffer("best", torch.tensor(math.inf, dtype=torch.float64))
        self.register_buffer("waited", torch.tensor(0.0, dtype=torch.float64))

    def on_validation(self, metrics: Mapping[str, Tensor]) -> Tensor | None:
        loss = metrics["val/loss"].to(self.best.dtype)
        improved = loss < self.best - self.min_delta
        self.waited.copy_(torch.where(improved, torch.zeros_like(self.waited), self.waited + 1))
        self.best.copy_(torch.where(improved, loss, self.best))
        return self.waited >= self.patience
