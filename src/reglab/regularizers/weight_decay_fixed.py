"""Weight decay that does not depend on the learning rate."""

from collections.abc import Mapping

from torch import Tensor, nn

from reglab.regularizers.base import Regularizer
from reglab.regularizers.select import selected


def schedule_factor(lr: Mapping[str, Tensor], name: str) -> Tensor | float:
    """Return a parameter's present learning rate divided by the one that its schedule starts from,
    0-dim.

    Args:
        lr: As ``before_step`` gets it; a mapping without ``relative`` knows of no schedule, and the
            factor is 1.
    """
    relative = getattr(lr, "relative", None)
    factor: Tensor | float = relative(name) if relative else 1.0
    return factor


class WeightDecayFixed(Regularizer):
    """Shrink the weights by ``w <- w * (1 - eta_t * strength)`` just before each update, beside the
    gradient.

    ``eta_t`` is the schedule alone: the present learning rate divided by the base rate (the
    optimizer's, or the ``max_lr`` of a one-cycle schedule), 1 without a schedule. So the share that
    is lost does not change with ``optimizer.lr``, and both can be tuned one after the other;
    ``weight_decay`` loses ``lr * strength``. It is the decay as the paper writes it (algorithm 2,
    line 12), where ``torch.optim.AdamW`` multiplies by the learning rate.

    Args:
        strength: The share of each weight that an update takes away at ``eta_t = 1``, from 0 to 1.
            With ``weight_decay`` it agrees at ``strength = lr * strength of weight_decay``.
        where: Which parameters; see ``select.chosen``.

    Source:
        Loshchilov & Hutter (2019), Decoupled weight decay regularization.
    """

    strength: Tensor

    def __init__(self, strength: float = 1e-4, where: str = "weights") -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0, maximum=1)
        self.where = where

    def before_step(self, model: nn.Module, lr: Mapping[str, Tensor]) -> None:
        for name, weight in selected(model, self.where):
            weight.mul_((1 - schedule_factor(lr, name) * self.strength).to(weight.dtype))
