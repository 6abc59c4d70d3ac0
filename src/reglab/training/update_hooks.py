"""Decoupled decay before each optimizer update, proximal steps and averages behind it."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim import Optimizer

from reglab.regularizers import Cocktail
from reglab.training.step_size import LearningRates, StepSizes, identity


class UpdateHooks:
    """Runs a cocktail's ``before_step`` and ``after_step`` around the updates of an optimizer.

    Args:
        cocktail: The regularizers.
        module: Whose weights the optimizer holds.
        optimizer: That updates them.
        total: Adds up over the ranks that have shards.

    Attributes:
        module: What the members act on.
        averaged: What averages are of; None where that is ``module``.
    """

    def __init__(
        self,
        cocktail: Cocktail,
        module: nn.Module,
        optimizer: Optimizer,
        total: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        self.cocktail, self.module, self.optimizer = cocktail, module, optimizer
        self.averaged: nn.Module | None = None
        self.rates = LearningRates(module, optimizer)
        self.sizes = StepSizes(module, optimizer, total)

    def begin(self, clipped: float | Tensor) -> None:
        """Begin a step whose gradient was multiplied by ``clipped``: so are proximal steps."""
        self.sizes.begin(clipped)

    def before(self) -> None:
        """Act on the weights before the update."""
        self.cocktail.before_step(self.module, self.rates)

    def after(self) -> None:
        """Act on the weights behind the update."""
        self.cocktail.after_step(self.module, self.sizes, self.averaged)

    def register(self) -> list[Callable[[], None]]:
        """Call ``before`` and ``after`` from the optimizer's own hooks, as far as a member acts
        there.

        Returns:
            What undoes it.
        """
        undo = []
        if self.cocktail.has("before_step"):
            undo.append(self.optimizer.register_step_pre_hook(lambda *_: self.before()).remove)
        if self.cocktail.has("on_step"):
            undo.append(self.optimizer.register_step_post_hook(lambda *_: self.after()).remove)
        return undo
