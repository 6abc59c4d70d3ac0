"""Label smoothing: mix the target with the uniform distribution."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from reglab.regularizers.base import Batch, Objective, Outcome, Regularizer


def uniform_losses(outputs: Tensor, task: str) -> Tensor:
    """Return each example's cross entropy against the uniform target, [rows].

    Args:
        outputs: logits, [rows, classes]; for binary and multilabel tasks [rows, labels], where
            uniform means one half.
    """
    if task == "classification":
        return -functional.log_softmax(outputs, dim=1).mean(dim=1)
    both = (functional.softplus(outputs) + functional.softplus(-outputs)) / 2
    return both.reshape(both.shape[0], -1).mean(dim=1)


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
            losses = uniform_losses(outcome.outputs, self.task)
            uniform = torch.stack([(weight * losses).mean() for weight, _ in outcome.targets]).sum()
            return outcome.plus(self.name, (self.strength * (uniform - outcome.terms["task"])).to(uniform.dtype))

        return smoothed
