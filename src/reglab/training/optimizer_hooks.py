"""A cocktail's part of each optimizer step, inside a training loop that is somebody else's."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reglab.errors import UserError
from reglab.regularizers import Cocktail
from reglab.training.step_size import LearningRates, StepSizes


class OptimizerHooks:
    """Adds penalties to gradients, and runs ``before_step`` and ``after_step`` around each update of ``optimizer``.

    When Lightning steps without a gradient scaler, the forward and backward pass are a closure that runs *inside*
    ``optimizer.step``, after its pre-hooks: there the gradient is ready at ``gradient_ready``. With a scaler, or when a
    user steps the plain optimizer, there is no closure and the gradient is ready in the pre-hook. A step that the
    scaler skips never gets to the hooks. Nothing happens in a step for which no weight has a gradient, and weights
    without one are left alone, as the optimizer itself leaves them.

    terms: each penalty, summed over ``steps`` optimizer steps. rows: examples seen since the last step.
    """

    def __init__(self, cocktail: Cocktail, module: nn.Module, optimizer: Optimizer) -> None:
        self.cocktail = cocktail
        self.module = module
        held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        self.weights = {name: weight for name, weight in module.named_parameters() if id(weight) in held}
        self.terms: dict[str, Tensor] = {}
        self.steps = 0
        self.rows = 0
        self._in_closure = False
        self._penalized = False
        self._rates = _WhereTrained(lambda: LearningRates(module, optimizer), self.weights)
        self._sizes = _WhereTrained(lambda: StepSizes(module, optimizer), self.weights)
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def gradient_ready(self) -> None:
        """Add the penalties' gradient; call it where gradients are unscaled, accumulated and averaged over ranks."""
        self._add_penalties()
        if self._in_closure:
            self._in_closure = False  # an optimizer that evaluates its closure twice decays once
            self._decay()

    def take_terms(self) -> dict[str, Tensor]:
        """Return the mean of each penalty over the steps since the last call."""
        means = {f"objective/{name}": total / self.steps for name, total in self.terms.items()}
        self.terms, self.steps = {}, 0
        return means

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
            self.cocktail.after_step(self.module, self._sizes)
            self.cocktail.keys.step.add_(1)
            self.rows = 0

    def _trains(self) -> bool:
        return any(weight.grad is not None for weight in self.weights.values())

    def _decay(self) -> None:
        if self._trains():
            self.cocktail.before_step(self.module, self._rates)

    def _add_penalties(self) -> None:
        self._penalized = True
        if not self._trains():
            return
        with torch.enable_grad():
            weights = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
            penalties = self.cocktail.penalties(weights)
            if not penalties:
                return
            total = torch.stack(list(penalties.values())).sum()
            slopes = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        for weight, slope in zip(weights.values(), slopes, strict=True):
            if slope is not None:
                weight.grad = slope if weight.grad is None else weight.grad.add_(slope)
        self.steps += 1
        for name, penalty in penalties.items():
            self.terms[name] = self.terms.get(name, 0) + penalty.detach()


class _WhereTrained(Mapping[str, Tensor]):
    """Numbers by parameter name; 0 for a parameter without a gradient. Built at the first look.

    Looked at late, since an optimizer whose effective step is not known still fits members that do not ask for it.
    """

    def __init__(self, build: Callable[[], Mapping[str, Tensor]], weights: Mapping[str, Tensor]) -> None:
        self._build = build
        self._weights = weights

    @cached_property
    def _numbers(self) -> Mapping[str, Tensor]:
        return self._build()

    def __getitem__(self, name: str) -> Tensor:
        numbers = self._numbers
        weight = self._weights.get(name)
        if weight is None or weight.grad is None:
            return torch.zeros((), dtype=torch.float64)
        return numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)
