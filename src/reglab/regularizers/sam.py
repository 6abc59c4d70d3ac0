"""Sharpness-aware minimization (SAM)."""

import torch
from torch import Tensor

from reglab.regularizers.base import Gradient, Outcome, Regularizer


class SAM(Regularizer):
    """Descend with the gradient taken at ``w + strength * g / ||g||``, where the loss nearby is
    worst to first order.

    Costs two gradients a step. Reported terms are those at the weights themselves.

    Args:
        strength: The radius rho, >= 0.

    Source:
        Foret et al. (2021), Sharpness-aware minimization for efficiently improving generalization.
    """

    strength: Tensor

    def __init__(self, strength: float = 0.05) -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0)

    def on_gradient(self, gradient: Gradient) -> Gradient:
        def sharpness_aware(offset: dict[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
            gradients, outcome = gradient(offset)
            wide = [gradient.to(torch.promote_types(gradient.dtype, torch.float32)) for gradient in gradients.values()]
            norm = self.total(torch.stack([gradient.square().sum() for gradient in wide]).sum()).sqrt()
            # A vanishing gradient has no direction: the floor leaves the weights where they are.
            scale = self.strength / norm.clamp(min=1e-12)
            perturbation = {name: (scale * gradient).to(gradient.dtype) for name, gradient in gradients.items()}
            if offset is not None:
                perturbation = {name: offset[name] + step for name, step in perturbation.items()}
            perturbed_gradients, _ = gradient(perturbation)
            return perturbed_gradients, outcome

        return sharpness_aware
