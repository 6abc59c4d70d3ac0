"""RAdam: Adam that waits for its second moment."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from reglab.optimizers.adam import largest_step
from reglab.optimizers.rule import ByStep, FusedRule, Group, Number, Tensors, common


class RAdam(ByStep):
    """``torch.optim.RAdam``: plain momentum in its first steps.

    Source:
        Liu et al. (2020), On the variance of the adaptive learning rate, arXiv:1908.03265.
    """

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.radam.RAdam",)
    keys: ClassVar[tuple[str, ...]] = ("eps",)

    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        beta1, beta2, rate = numbers["beta1"], numbers["beta2"], numbers["lr"]
        correction = 1 - beta2**step
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * step * beta2**step / correction
        found = dict(numbers) | {"gain1": 1 - beta1, "gain2": 1 - beta2, "kept": 1 - rate * numbers["weight_decay"]}
        if length <= 5:  # whatever the second moment is, it counts as 1
            plain = {"size": rate, "root": 1e-30, "eps": 1.0, "largest": float("inf")}
            return found | plain | {"step": rate / (1 - beta1**step)}
        rectified = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5
        return found | {
            "step": rate / (1 - beta1**step) * rectified,
            "size": rate * rectified,
            "root": correction**-0.5,
            "eps": numbers["eps"] * correction**-0.5,
            "largest": float(largest_step(rate, beta1, beta2)),
        }

    def second(self, state: Mapping[str, Any], numbers: Mapping[str, Number]) -> Tensor:
        second: Tensor = state["exp_avg_sq"]
        return second

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        update = radamw if common(groups, "decoupled_weight_decay") else radam
        return FusedRule(("exp_avg", "exp_avg_sq"), self.step_numbers, update, self.second)


def radam(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step with the decay added to the gradient."""
    _radam(weight, gradient + numbers["weight_decay"] * weight, state, numbers)


def radamw(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step after the weights shrank by ``1 - lr * decay``."""
    weight.mul_(numbers["kept"])
    _radam(weight, gradient, state, numbers)


def _radam(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    first, second = state["exp_avg"], state["exp_avg_sq"]
    first.add_(numbers["gain1"] * (gradient - first))
    second.mul_(numbers["beta2"]).add_(numbers["gain2"] * gradient * gradient)
    weight.sub_(numbers["step"] * (first / (second.sqrt() * numbers["root"] + numbers["eps"])))
