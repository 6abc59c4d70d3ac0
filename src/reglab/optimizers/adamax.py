"""Adamax."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from reglab.optimizers.rule import ByStep, FusedRule, Group, Number, Tensors


class Adamax(ByStep):
    """``torch.optim.Adamax``: divides by the largest gradient of late, to which ``eps`` is added.

    Source:
        Kingma & Ba (2015), Adam, section 7.1.
    """

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.adamax.Adamax",)
    keys: ClassVar[tuple[str, ...]] = ("eps",)

    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        rate = numbers["lr"]
        return dict(numbers) | {
            "gain1": 1 - numbers["beta1"],
            "step": rate / (1 - numbers["beta1"] ** step),
            "size": rate,
            "root": 1.0,
            "largest": 2 * rate,
        }

    def second(self, state: Mapping[str, Any], numbers: Mapping[str, Number]) -> Tensor:
        largest: Tensor = state["exp_inf"]
        return (largest - numbers["eps"]).clamp(min=0) ** 2  # eps alone where there never was a gradient

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        return FusedRule(("exp_avg", "exp_inf"), self.step_numbers, update, self.second)


def update(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Move by ``lr m_hat / u``, ``u = max(beta2 u, |g| + eps)``."""
    gradient = gradient + numbers["weight_decay"] * weight
    first, largest = state["exp_avg"], state["exp_inf"]
    first.add_(numbers["gain1"] * (gradient - first))
    largest.copy_(torch.maximum(largest * numbers["beta2"], gradient.abs() + numbers["eps"]))
    weight.sub_(numbers["step"] * (first / largest))
