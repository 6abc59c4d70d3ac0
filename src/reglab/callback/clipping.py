"""Gradient clipping with proximal steps: by norm the steps scale too; by value is checked."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import GradClipAlgorithmType
from torch import Tensor
from torch.optim import Optimizer

from reglab.core.errors import UserError
from reglab.distributed.parameters import clip_factor
from reglab.regularizers import Cocktail

_BY_VALUE = GradClipAlgorithmType.VALUE


def check_by_value(cocktail: Cocktail, limit: float) -> None:
    """Raise UserError where gradients clipped to ``[-limit, limit]`` never outweigh a proximal
    penalty.

    Args:
        cocktail: The regularizers.
        limit: That gradients are clipped to.
    """
    for name, member in cocktail.named_regularizers():
        minimum = member.slope_at_zero() if member.proximal else torch.zeros(())
        if minimum is None or float(minimum) > limit:
            reason = (
                "whose gradient at 0 is unknown" if minimum is None else f"whose gradient at 0 is {float(minimum):g}"
            )
            raise UserError(
                f"gradients are clipped by value to {limit:g}, and {name} takes proximal steps, {reason}: weights "
                "would go to 0 whatever the data say; clip by norm (gradient_clip_algorithm='norm'), or not below "
                "that gradient"
            )


def follow_clipping(
    trainer: pl.Trainer, cocktail: Cocktail, followed: Optimizer, on_clip: Callable[[Tensor], None]
) -> Callable[[], None]:
    """Call ``on_clip`` with the factor of each clipping by norm that Lightning does, and return the
    undo.

    That is ``Trainer(gradient_clip_val=...)`` and ``self.clip_gradients`` in the module; what a
    module does with ``torch.nn.utils.clip_grad_norm_`` by itself is not noticed.

    Args:
        trainer: During a fit.
        cocktail: The regularizers.
        followed: The optimizer whose gradients count.
        on_clip: Gets the factor, 0-dim.

    Returns:
        Undoes it.

    Raises:
        UserError: For clipping by value that does not fit.
    """
    plugin: Any = trainer.precision_plugin
    original = plugin.clip_gradients
    if trainer.gradient_clip_val and trainer.gradient_clip_algorithm == _BY_VALUE:
        check_by_value(cocktail, float(trainer.gradient_clip_val))

    def clip_gradients(
        optimizer: Optimizer, clip_val: float = 0.0, gradient_clip_algorithm: Any = GradClipAlgorithmType.NORM
    ) -> None:
        by_value = gradient_clip_algorithm == _BY_VALUE
        if getattr(optimizer, "optimizer", optimizer) is not followed:
            original(optimizer, clip_val, gradient_clip_algorithm)
            return
        if clip_val > 0 and by_value:
            check_by_value(cocktail, float(clip_val))
        if clip_val > 0 and not by_value:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            norm: Any = torch.nn.utils.get_total_norm(gradients)
            on_clip(clip_factor(norm.full_tensor() if hasattr(norm, "full_tensor") else norm, float(clip_val)))
        original(optimizer, clip_val, gradient_clip_algorithm)

    plugin.clip_gradients = clip_gradients

    def restore() -> None:
        plugin.__dict__.pop("clip_gradients", None)

    return restore
