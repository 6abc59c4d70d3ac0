"""Decoupled weight decay, scaled by the learning rate (AdamW's)."""

from collections.abc import Mapping

from torch import Tensor, nn

from reglab.regularizers.base import Regularizer
from reglab.regularizers.select import selected


class WeightDecay(Regularizer):
    """Shrink the weights by ``w <- w * (1 - lr * strength)`` just before each update, beside the
    gradient.

    Under Adam it equals ``torch.optim.AdamW(weight_decay=strength)`` on the selected weights;
    biases and normalization parameters are left alone.

    A share that does not change with the learning rate is ``weight_decay_fixed``.

    Args:
        strength: >= 0; per update a share ``lr * strength`` of each weight is lost.

    Source:
        Loshchilov & Hutter (2019), Decoupled weight decay regularization.
    """

    strength: Tensor

    def __init__(self, strength: float = 1e-2, where: str = "weights") -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0)
        self.where = where

    def before_step(self, model: nn.Module, lr: Mapping[str, Tensor]) -> None:
        for name, weight in selected(model, self.where):
            weight.mul_((1 - lr[name] * self.strength).to(weight.dtype))
