"""RMSprop."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from reglab.optimizers.rule import ByStep, FusedRule, Group, Number, Tensors, common


class RMSprop(ByStep):
    """``torch.optim.RMSprop``.

    Without momentum a step is at most ``lr / sqrt(1 - alpha)``, and with it ``1 / (1 - momentum)``
    of that. The centred second moment goes to 0 where the gradient settles, and so bounds nothing:
    weights then oscillate by ``lr``, and the minimum is exact as that goes to 0.

    Source:
        Hinton (2012), Neural networks for machine learning, lecture 6e; centred: Graves (2013),
        arXiv:1308.0850.
    """

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.rmsprop.RMSprop",)
    keys: ClassVar[tuple[str, ...]] = ("alpha", "eps", "momentum")

    def numbers(self, group: Group) -> dict[str, float]:
        return super().numbers(group) | {"centered": float(group["centered"])}

    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        size = numbers["lr"] / (1 - numbers["momentum"])
        largest = float("inf") if numbers["centered"] else 2 * size / (1 - numbers["alpha"]) ** 0.5
        return dict(numbers) | {"kept": 1 - numbers["alpha"], "size": size, "root": 1.0, "largest": largest}

    def second(self, state: Mapping[str, Any], numbers: Mapping[str, Number]) -> Tensor:
        square: Tensor = state["square_avg"]
        return square if "grad_avg" not in state else (square - state["grad_avg"] ** 2).clamp(min=0)

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        names = [
            "square_avg",
            *(["grad_avg"] if common(groups, "centered") else []),
            *(["momentum_buffer"] if any(group["momentum"] for group in groups) else []),
        ]
        return FusedRule(tuple(names), self.step_numbers, update, self.second)


def update(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Move by ``lr g / (sqrt(v) + eps)``, or along its momentum."""
    gradient = gradient + numbers["weight_decay"] * weight
    state["square_avg"].mul_(numbers["alpha"]).add_(numbers["kept"] * gradient * gradient)
    square = state["square_avg"]
    if "grad_avg" in state:
        mean = state["grad_avg"]
        mean.add_(numbers["kept"] * (gradient - mean))
        square = square - mean * mean
    gradient = gradient / (square.sqrt() + numbers["eps"])
    if "momentum_buffer" in state:
        gradient = state["momentum_buffer"].mul_(numbers["momentum"]).add_(gradient)
    weight.sub_(numbers["lr"] * gradient)
