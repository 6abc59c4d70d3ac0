"""Elastic net by proximal steps: L1's zeros with L2's shrinkage."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from reglab.regularizers.base import Regularizer
from reglab.regularizers.l1 import clip_to_threshold
from reglab.regularizers.proximal import largest_move
from reglab.regularizers.select import selected


class ElasticNet(Regularizer):
    """Minimize ``loss + strength * (l1_ratio * sum |w| + (1 - l1_ratio) / 2 * sum w^2)``, reaching
    exact zeros.

    The proximal operator of both parts is the soft threshold, then a division:
    ``prox(w) = soft(w, t * strength * l1_ratio) / (1 + t * strength * (1 - l1_ratio))`` at
    effective step ``t``.

    Steps, clipping and the zeros that minibatches keep: as of ``L1``.

    Args:
        strength: >= 0.
        l1_ratio: From 0 (ridge) to 1 (Lasso). For a linear model under a mean squared error halved
            they are scikit-learn's ``alpha`` and ``l1_ratio``.

    Source:
        Zou & Hastie (2005), Regularization and variable selection via the elastic net.
    """

    proximal: ClassVar[bool] = True
    strength: Tensor
    l1_ratio: Tensor

    def __init__(self, strength: float = 1e-4, l1_ratio: float = 0.5, where: str = "weights") -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0)
        self.hyper(l1_ratio=l1_ratio, minimum=0, maximum=1)
        self.where = where

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        for name, weight in selected(model, self.where):
            sharp, smooth = self.strength * self.l1_ratio, self.strength * (1 - self.l1_ratio)
            size, dtype = step_size[name], weight.dtype
            if (limit := largest_move(step_size, name)) is not None:
                gradient = sharp + smooth * (weight.abs() - limit).clamp(
                    min=0
                )  # of the penalty, at the end of the move
                size = size.minimum((limit / gradient.clamp(min=torch.finfo(gradient.dtype).tiny)).to(size.dtype))
            weight.sub_(clip_to_threshold(weight, (sharp * size).to(dtype)))
            weight.div_((1 + smooth * size).to(dtype))

    def slope_at_zero(self) -> Tensor:
        return self.strength * self.l1_ratio
