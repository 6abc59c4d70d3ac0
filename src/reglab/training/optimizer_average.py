"""Averages of the weights that an optimizer stands for: schedule-free, and those of other packages."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reglab.optimizers.schedule_free import ScheduleFree
from reglab.regularizers.base import Gradient, Outcome
from reglab.regularizers.weight_average import BY_OPTIMIZER, WeightAverage
from reglab.regularizers.weight_decay_fixed import schedule_factor


class ScheduleFreeAverage(WeightAverage):
    """The average ``x`` of ``optimizer=schedule_free``, whose weights are ``z``.

    Gradients are taken at ``y = z + beta (x - z)``. After step ``t`` of the optimizer,
    ``x <- (1 - c) x + c z`` with ``c = g_t^2 / (g_1^2 + ... + g_t^2)``, where ``g_t`` is the largest
    factor of the schedule up to then: a warm-up counts little. ``c`` is 1 in the first step, so that ``x`` is
    a mean of weights that a step ended with, and inside any convex set that they are projected to.

    ``x - z`` is what is kept. It stands first in a cocktail: it sees ``z`` before a decay changes
    it, and perturbs the weights inside other methods' gradients.

    Args:
        beta: How far from ``z`` to ``x`` gradients are taken, 0 <= beta < 1.

    Source:
        Defazio et al. (2024), The road less scheduled, arXiv:2405.15682.
    """

    apart: ClassVar[bool] = False
    beta: Tensor
    largest_rate: Tensor
    weight_sum: Tensor

    def __init__(self, beta: float = 0.9) -> None:
        super().__init__()
        self.hyper(beta=beta, minimum=0, below=1)
        self.register_buffer("largest_rate", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("weight_sum", torch.tensor(0.0, dtype=torch.float64))

    def initial(self, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight)

    def average(self, name: str, weight: Tensor) -> Tensor:
        return weight + self.kept(name)

    def on_gradient(self, gradient: Gradient) -> Gradient:
        def at_y(offset: dict[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
            own = {name: self.beta.to(kept.dtype) * kept for name, kept in self._all().items()}
            for name, step in (offset or {}).items():
                own[name] = own[name] + step if name in own else step
            return gradient(own)

        return at_y

    def _all(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(buffer) for buffer, name in self.shaped.items()}

    def before_step(self, model: nn.Module, lr: Mapping[str, Tensor]) -> None:
        rate = schedule_factor(lr, next(iter(self.shaped.values())))
        self.largest_rate.copy_(torch.maximum(self.largest_rate, torch.as_tensor(rate, dtype=self.largest_rate.dtype)))
        for name, weight in self.averaged(model):
            self.kept(name).add_(weight)

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        share = self.largest_rate.square()
        self.weight_sum.add_(share)
        left = 1 - share / self.weight_sum.clamp(min=1e-30)
        for name, weight in self.averaged(model):
            kept = self.kept(name)
            kept.copy_(left.to(kept.dtype) * (kept - weight))


class OptimizerAverage(WeightAverage):
    """The average of an optimizer that keeps it by itself, and swaps it in by ``eval()``, such as
    those of the package ``schedulefree``.
    """

    apart: ClassVar[bool] = False
    _optimizer: Optimizer

    def follow(self, optimizer: Optimizer) -> None:
        """Average as ``optimizer`` does, and set it to training."""
        self.__dict__["_optimizer"] = optimizer
        optimizer.train()  # type: ignore[attr-defined]

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        weights = self.averaged(model)
        trained = [weight.detach().clone() for _, weight in weights]
        self._optimizer.eval()  # type: ignore[attr-defined]
        for name, weight in weights:
            self.kept(name).copy_(weight)
        self._optimizer.train()  # type: ignore[attr-defined]
        for (_, weight), value in zip(weights, trained, strict=True):
            weight.copy_(value)  # there and back would round


def saved_average(state: Mapping[str, Tensor]) -> WeightAverage | None:
    """Return the average that the optimizer of a checkpoint stood for, to be loaded from it; None
    where it stood for the weights.

    Args:
        state: The checkpoint's state dict.
    """
    prefix = f"cocktail.members.{BY_OPTIMIZER}."
    if not any(name.startswith(prefix) for name in state):
        return None
    return ScheduleFreeAverage() if f"{prefix}beta" in state else OptimizerAverage()


def needs_average(optimizer: Optimizer) -> bool:
    """Return whether an optimizer is one that ``ScheduleFreeAverage`` belongs to."""
    return isinstance(optimizer, ScheduleFree)
