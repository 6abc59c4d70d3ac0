"""Lion: steps of one length along the sign of its momentum."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from reglab.core.errors import UserError
from reglab.optimizers.rule import ByStep, FusedRule, Group, Number, Tensors


class Lion(Optimizer):
    """``w <- w - lr sign(beta1 m + (1 - beta1) g)``, then ``m <- beta2 m + (1 - beta2) g``.

    Args:
        params: Weights, or param groups.
        lr: The learning rate; a third to a tenth of Adam's.
        betas: Of the step and of the momentum, each in [0, 1).
        weight_decay: Decoupled, as in AdamW, >= 0.

    Source:
        Chen et al. (2023), Symbolic discovery of optimization algorithms, arXiv:2302.06675.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: Sequence[float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        if not lr > 0 or not weight_decay >= 0 or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(
                f"Lion needs lr > 0, two betas in [0, 1) and weight_decay >= 0, got lr={lr}, betas={list(betas)}, "
                f"weight_decay={weight_decay}"
            )
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["exp_avg"] = torch.zeros_like(weight)
                mean, gradient = state["exp_avg"], weight.grad
                weight.mul_(1 - lr * decay)
                weight.sub_(lr * (mean * beta1 + (1 - beta1) * gradient).sign())
                mean.mul_(beta2).add_((1 - beta2) * gradient)
        return loss


class LionRule(ByStep):
    """Lion moves by ``lr`` however small the gradient is: its effective step is ``lr / |m|``, and
    weights without a penalty oscillate by ``lr``.
    """

    serves: ClassVar[tuple[str, ...]] = ("reglab.optimizers.lion.Lion",)

    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        rate, beta1, beta2 = (numbers[key] for key in ("lr", "beta1", "beta2"))
        return dict(numbers) | {
            "gain1": 1 - beta1,
            "gain2": 1 - beta2,
            "kept": 1 - rate * numbers["weight_decay"],
            "size": rate,
            "root": 1.0,
            "eps": 0.0,
            "largest": 2 * rate,
        }

    def second(self, state: Mapping[str, Any], numbers: Mapping[str, Number]) -> Tensor:
        mean: Tensor = state["exp_avg"]
        return mean * mean

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        return FusedRule(("exp_avg",), self.step_numbers, update, self.second, count=lambda numbers, done: {})


def update(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of ``Lion``."""
    mean = state["exp_avg"]
    weight.mul_(numbers["kept"])
    weight.sub_(numbers["lr"] * (mean * numbers["beta1"] + numbers["gain1"] * gradient).sign())
    mean.mul_(numbers["beta2"]).add_(numbers["gain2"] * gradient)
