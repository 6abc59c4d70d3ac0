"""Mixup: train on convex combinations of pairs of examples."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from reglab.regularizers.base import Batch, Objective, Outcome, Regularizer
from reglab.rng.beta import symmetric_beta_draw


class Mixup(Regularizer):
    """Train on ``share * x + (1 - share) * x'`` against both targets,
    ``share ~ Beta(strength, strength)`` each step.

    Each example's partner is its neighbour in the (shuffled) batch, in pairs, not a second
    permutation: as random, and the same pairs on one rank or two (of an even batch each). The last
    example of an odd batch stays as it is.

    Args:
        strength: alpha, >= 0; 0 mixes nothing. Usual values: 0.1 to 0.4.

    Source:
        Zhang et al. (2018), mixup: beyond empirical risk minimization.
    """

    claims: ClassVar[frozenset[str]] = frozenset({"mixing"})
    strength: Tensor

    def __init__(self, strength: float = 0.2) -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0)

    def share(self) -> Tensor:
        """Return this step's share of the batch itself, a Beta draw in [0, 1]."""
        return symmetric_beta_draw(self.strength, self.keys.stream(self.name))

    def on_objective(self, objective: Objective) -> Objective:
        def mixed(model: nn.Module, batch: Batch) -> Outcome:
            share = self.share()
            position = torch.arange(batch.inputs.shape[0], device=batch.inputs.device)
            partner = torch.where(position ^ 1 < position.shape[0], position ^ 1, position)
            portion = share.to(batch.inputs.dtype)
            inputs = portion * batch.inputs + (1 - portion) * batch.inputs[partner]
            targets = [(share.to(weight.dtype) * weight, target) for weight, target in batch.targets]
            targets += [
                ((1 - share).to(weight.dtype) * weight.expand(position.shape)[partner], target[partner])
                for weight, target in batch.targets
            ]
            return objective(model, Batch(inputs, targets, batch.index))

        return mixed
