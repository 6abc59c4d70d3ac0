"""Adagrad."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from reglab.optimizers.rule import ByStep, FusedRule, Group, Number, Tensors


class Adagrad(ByStep):
    """``torch.optim.Adagrad``.

    Source:
        Duchi, Hazan & Singer (2011), Adaptive subgradient methods.
    """

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.adagrad.Adagrad",)
    keys: ClassVar[tuple[str, ...]] = ("eps", "lr_decay", "initial_accumulator_value")

    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        rate = numbers["lr"] / (1 + (step - 1) * numbers["lr_decay"])
        return dict(numbers) | {"size": rate, "root": 1.0, "largest": 2 * rate}

    def second(self, state: Mapping[str, Any], numbers: Mapping[str, Number]) -> Tensor:
        total: Tensor = state["sum"]
        return total

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        return FusedRule(("sum",), self.step_numbers, update, self.second, initial={"sum": "initial_accumulator_value"})


def update(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Move by ``lr g / (sqrt(sum of squares) + eps)``."""
    gradient = gradient + numbers["weight_decay"] * weight
    state["sum"].add_(gradient * gradient)
    weight.sub_(numbers["size"] * (gradient / (state["sum"].sqrt() + numbers["eps"])))
