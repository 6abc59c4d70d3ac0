"""Optimizer hooks for ``Regularize``: penalties, decoupled decay and proximal steps."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reglab.callback.second_gradient import SecondGradient
from reglab.core.errors import UserError
from reglab.distributed.parameters import LocalParameters
from reglab.regularizers import Cocktail
from reglab.regularizers.parameter_kinds import kinds_of
from reglab.training.term_sums import TermSums
from reglab.training.update_hooks import UpdateHooks


class OptimizerHooks:
    """Adds penalties to gradients, and runs ``before_step`` and ``after_step`` around each update
    of ``optimizer``.

    When Lightning steps without a gradient scaler, the forward and backward pass are a closure that
    runs *inside* ``optimizer.step``, after its pre-hooks: there the gradient is ready at
    ``gradient_ready``. With a scaler, or when a user steps the plain optimizer, there is no closure
    and the gradient is ready in the pre-hook. A step that the scaler skips never gets to the hooks.
    Nothing happens in a step for which no weight has a gradient; in every other one, regularizers
    act on all weights that the optimizer holds, whether or not the loss reached them.

    ``clipped`` is called at each clipping of the gradient by its norm: what follows is scaled by
    the same factor, so that clipping changes how far a step goes and not where training ends.

    Args:
        cocktail: The regularizers.
        module: That is trained.
        optimizer: Whose steps are followed.
        parameters: Of the module, as this device holds them.
        second: Takes gradients at other weights, where a member asks for them.
        held_only: Whether projections, too, act on the optimizer's own weights alone: others have
            an optimizer of theirs. Averages are of all weights.

    Attributes:
        terms: Each penalty in the optimizer steps since the last measurement.
        rows: Examples seen since the last step.
    """

    def __init__(
        self,
        cocktail: Cocktail,
        module: nn.Module,
        optimizer: Optimizer,
        parameters: LocalParameters | None = None,
        second: SecondGradient | None = None,
        held_only: bool = False,
    ) -> None:
        self.cocktail = cocktail
        self.optimizer = optimizer
        self._second = second
        self.terms = TermSums()
        self.rows = 0
        self._in_closure = False
        self._penalized = False
        self._factor: float | Tensor = 1.0
        self._parameters = parameters or LocalParameters(module)
        self._updates = UpdateHooks(cocktail, module, optimizer, self._parameters.total)
        self._updates.module = self._parameters.hook_target
        if held_only:
            rates, trained = self._updates.rates, {name for name, it in module.named_parameters() if it.requires_grad}
            self._updates.module = cast(nn.Module, _StandIn(module, lambda: rates.weights.items()))
            # Detached: a module may freeze the weights of one optimizer while another steps.
            self._updates.averaged = cast(
                nn.Module,
                _StandIn(module, lambda: [(n, w.detach()) for n, w in module.named_parameters() if n in trained]),
            )
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def gradient_ready(self) -> None:
        """Add the penalties' gradient; call it where gradients are unscaled, accumulated and
        averaged over ranks.
        """
        self._add_penalties()
        if self._second is not None and self._trains():
            self._second.apply(self._updates.rates.weights)
        if self._in_closure:
            self._in_closure = False  # an optimizer that evaluates its closure twice decays once
            self._decay()

    def begin_batch(self) -> None:
        """Reset what is of the step before: a gradient scaler may have skipped it."""
        self._factor, self._penalized = 1.0, False

    def clipped(self, factor: Tensor) -> None:
        """Record that the gradient was multiplied by ``factor``, 0-dim."""
        self._factor = self._factor * factor

    def _before(self, optimizer: Optimizer, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        closure = options.get("closure", arguments[1] if len(arguments) > 1 else None)
        self._in_closure = closure is not None
        if not self._in_closure:
            if not self._penalized:
                self._add_penalties()
            self._decay()

    def _after(self, optimizer: Optimizer, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        if not self._penalized:
            raise UserError(
                "the optimizer was stepped with a closure outside Lightning, where no penalty can be added; in "
                "training_step call self.optimizers().step(closure), without use_pl_optimizer=False"
            )
        self._penalized = self._in_closure = False
        if self._trains():
            self._updates.begin(self._factor)
            self._updates.after()
            self.cocktail.keys.step.add_(1)
            self.rows = 0
        self._factor = 1.0

    def _trains(self) -> bool:
        return any(weight.grad is not None for weight in self._updates.rates.weights.values())

    def _decay(self) -> None:
        if self._trains():
            self._updates.before()

    def _add_penalties(self) -> None:
        self._penalized = True
        if not self._trains():
            return
        weights = {name: weight for name, weight in self._updates.rates.weights.items() if weight.requires_grad}
        with torch.enable_grad():
            penalties, gradients = self._parameters.penalty_gradients(self.cocktail, weights)
        for name, gradient in gradients.items():
            scaled = gradient if isinstance(self._factor, float) else gradient * self._factor
            self._parameters.add_gradient(weights[name], scaled)
        if penalties:
            self.terms.add({name: penalty.detach().reshape(1) for name, penalty in penalties.items()}, [1])


class _StandIn:
    """Some weights of a module, as the members' hooks see them."""

    def __init__(self, module: nn.Module, weights: Callable[[], Iterable[tuple[str, Tensor]]]) -> None:
        self.kinds, self.named_buffers, self._weights = kinds_of(module), module.named_buffers, weights

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._weights()
