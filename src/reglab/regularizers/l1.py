"""L1 by proximal steps: exact zeros (soft thresholding)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from reglab.regularizers.base import Regularizer
from reglab.regularizers.proximal import largest_move
from reglab.regularizers.select import selected


def soft_threshold(weight: Tensor, threshold: Tensor) -> Tensor:
    """Return the proximal operator of ``threshold * |w|``, elementwise.

    ``argmin_u  (u - w)^2 / 2 + threshold * |u|  =  sign(w) * max(|w| - threshold, 0)``

    Shapes: any; ``threshold`` broadcasts to ``weight``.

    Args:
        weight: Any shape.
        threshold: Non-negative; broadcasts to ``weight``.

    Returns:
        The shrunken weights, same shape and dtype as ``weight``.

    Example:
        >>> soft_threshold(torch.tensor([-2.0, 0.5, 1.5]), torch.tensor(1.0))
        tensor([-1.0000,  0.0000,  0.5000])

    Source:
        Donoho (1995), De-noising by soft-thresholding.
    """
    return weight - clip_to_threshold(weight, threshold)


def clip_to_threshold(weight: Tensor, threshold: Tensor) -> Tensor:
    """Return ``w - prox(w)``: the projection of ``weight`` onto ``[-threshold, threshold]``.

    Args:
        weight: Any shape.
        threshold: Non-negative; broadcasts to ``weight``.

    Returns:
        Same shape and dtype as ``weight``.

    Example:
        >>> clip_to_threshold(torch.tensor([-2.0, 0.5, 1.5]), torch.tensor(1.0))
        tensor([-1.0000,  0.5000,  1.0000])
    """
    if threshold.ndim:
        return weight.clamp(-threshold, threshold)
    return weight.maximum(-threshold).minimum(threshold)  # clamp takes three times as long with 0-dim bounds


class L1(Regularizer):
    """Minimize ``loss + strength * sum |w|`` over the weights, reaching exact zeros.

    The proximal step uses the optimizer's effective step size, so that its fixed point is the
    Lasso's also under momentum and Adam (Yun et al. 2021, Adaptive proximal gradient methods for
    structured neural networks).

    Adam's step of a coordinate that never had a gradient is a typical one of its tensor, and no
    proximal step is longer than twice what Adam itself can take (``training.step_size``); clipping
    by norm scales the step as it does the gradient. A weight that no loss reaches ends at 0, the
    minimum of its penalty.

    The noise of minibatches moves weights off 0 again at each step: plain SGD on small batches
    keeps few of the zeros that the solution has (5 of 26 in ``tests/training/test_polish.py``),
    Adam some more. Larger batches, a learning rate that goes to 0, or ``trainer.polish_steps`` at
    the end give them back.

    Args:
        strength: Per weight, >= 0. For a linear model under a mean squared error halved, it is
            scikit-learn's ``alpha``.
        where: Which parameters; see ``select.chosen``.
    """

    proximal: ClassVar[bool] = True
    strength: Tensor

    def __init__(self, strength: float = 1e-4, where: str = "weights") -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0)
        self.where = where

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        for name, weight in selected(model, self.where):
            threshold, limit = self.strength * step_size[name], largest_move(step_size, name)
            threshold = (threshold if limit is None else threshold.minimum(limit)).to(weight.dtype)
            weight.sub_(clip_to_threshold(weight, threshold))

    def slope_at_zero(self) -> Tensor:
        return self.strength
