"""NAdam: Adam with Nesterov's momentum."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from reglab.optimizers.adam import largest_step
from reglab.optimizers.rule import ByStep, FusedRule, Group, Number, Tensors, common


class NAdam(ByStep):
    """``torch.optim.NAdam``.

    Source:
        Dozat (2016), Incorporating Nesterov momentum into Adam.
    """

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.nadam.NAdam",)
    keys: ClassVar[tuple[str, ...]] = ("eps", "momentum_decay")

    def __init__(self) -> None:
        self._products: dict[tuple[float, float], tuple[int, np.float32]] = {}

    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        beta1, beta2, rate = numbers["beta1"], numbers["beta2"], numbers["lr"]
        product = self._product(beta1, numbers["momentum_decay"], step)
        mu, following = (_momentum(beta1, numbers["momentum_decay"], each) for each in (step, step + 1))
        of_gradient, of_mean = (1 - mu) / (1 - product), following / (1 - product * following)
        return dict(numbers) | {
            "gain1": 1 - beta1,
            "gain2": 1 - beta2,
            "kept": 1 - rate * numbers["weight_decay"],
            "along_gradient": rate * of_gradient,
            "along_mean": rate * of_mean,
            "size": rate * (of_gradient + of_mean * (1 - beta1**step)),
            "root": (1 - beta2**step) ** -0.5,
            "largest": 2 * float(largest_step(rate, beta1, beta2)),
        }

    def _product(self, beta1: float, decay: float, step: int) -> float:
        """Return the product of the momenta up to a step, in float32 as the optimizer keeps it."""
        done, product = self._products.get((beta1, decay), (0, np.float32(1)))
        if done > step:
            done, product = 0, np.float32(1)
        for number in range(done + 1, step + 1):
            product *= np.float32(_momentum(beta1, decay, number))
        self._products[beta1, decay] = step, product
        return float(product)

    def second(self, state: Mapping[str, Any], numbers: Mapping[str, Number]) -> Tensor:
        second: Tensor = state["exp_avg_sq"]
        return second

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        update = nadamw if common(groups, "decoupled_weight_decay") else nadam
        return FusedRule(("exp_avg", "exp_avg_sq"), self.step_numbers, update, self.second, count=self._count)

    def _count(self, numbers: Mapping[str, float], done: int) -> dict[str, float]:
        product = self._product(numbers["beta1"], numbers["momentum_decay"], done)
        return {"step": float(done), "mu_product": product}


def _momentum(beta1: float, decay: float, step: int) -> float:
    return beta1 * (1.0 - 0.5 * float(0.96 ** (step * decay)))


def nadam(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step with the decay added to the gradient."""
    _nadam(weight, gradient + numbers["weight_decay"] * weight, state, numbers)


def nadamw(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step after the weights shrank by ``1 - lr * decay``."""
    weight.mul_(numbers["kept"])
    _nadam(weight, gradient, state, numbers)


def _nadam(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    first, second = state["exp_avg"], state["exp_avg_sq"]
    first.add_(numbers["gain1"] * (gradient - first))
    second.mul_(numbers["beta2"]).add_(numbers["gain2"] * gradient * gradient)
    spread = second.sqrt() * numbers["root"] + numbers["eps"]
    weight.sub_((numbers["along_gradient"] * gradient + numbers["along_mean"] * first) / spread)
