"""Flooding: keep the training loss from falling below a level."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from reglab.regularizers.base import Batch, Objective, Outcome, Regularizer


class Flooding(Regularizer):
    """Train on ``|loss - strength| + strength``: below the level the gradient changes sign.

    Adds the difference.

    Args:
        strength: The flood level, in units of the loss, >= 0.

    Source:
        Ishida et al. (2020), Do we need zero training loss after achieving zero training error?
    """

    reads: ClassVar[Literal["batch", "outputs", "loss"]] = "loss"
    strength: Tensor

    def __init__(self, strength: float = 0.05) -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0)

    def on_objective(self, objective: Objective) -> Objective:
        def flooded(model: nn.Module, batch: Batch) -> Outcome:
            outcome = objective(model, batch)
            loss = self.mean(outcome.loss)
            level = self.strength.to(loss.dtype)
            return outcome.plus(self.name, (loss - level).abs() + level - loss)

        return flooded
