"""Label smoothing: mix the target with the uniform distribution."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from reglab.regularizers.base import Batch, Objective, Outcome, Regularizer
from reglab.tasks import task_named


class LabelSmoothing(Regularizer):
    """Train against ``(1 - strength) * target + strength * uniform``; adds the term
    ``strength * (uniform - task)``.

    Args:
        strength: The share of the uniform target, 0 <= strength <= 1.

    Source:
        Szegedy et al. (2016), Rethinking the Inception architecture for computer vision.
    """

    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification", "binary", "multilabel"})
    reads: ClassVar[Literal["batch", "outputs", "loss"]] = "outputs"
    strength: Tensor

    def __init__(self, strength: float = 0.1) -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0, maximum=1)

    def on_objective(self, objective: Objective) -> Objective:
        def smoothed(model: nn.Module, batch: Batch) -> Outcome:
            outcome = objective(model, batch)
            losses = task_named(self.task).uniform_losses(outcome.outputs)
            uniform = torch.stack([(weight * losses).mean() for weight, _ in outcome.targets]).sum()
            return outcome.plus(self.name, (self.strength * (uniform - outcome.terms["task"])).to(uniform.dtype))

        return smoothed
