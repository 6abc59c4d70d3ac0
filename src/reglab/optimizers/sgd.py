"""SGD with momentum, dampening and Nesterov's step."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from reglab.optimizers.rule import FusedRule, Group, Number, Scale, Tensors, UpdateRule, common


class SGD(UpdateRule):
    """``torch.optim.SGD``."""

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.sgd.SGD",)

    def scale(self, group: Group, state: Mapping[str, Any], lr: Number) -> Scale:
        momentum: float = group["momentum"]
        return Scale(lr * (1 - group["dampening"]) / (1 - momentum) if momentum else lr)

    def numbers(self, group: Group) -> dict[str, float]:
        momentum = float(group["momentum"])
        dampening = group["dampening"] if momentum else 0.0
        return {key: float(group[key]) for key in ("lr", "weight_decay")} | {
            "momentum": momentum,
            "dampening": dampening,
        }

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        state_names = ("momentum_buffer",) if any(group["momentum"] for group in groups) else ()
        update = sgd_nesterov if common(groups, "nesterov") else sgd
        return FusedRule(state_names, step_numbers, update, count=lambda numbers, done: {})


def step_numbers(numbers: Tensors, done: Sequence[int]) -> dict[str, Tensor]:
    """Return what steps of SGD need: the first velocity is the gradient itself, whatever the
    dampening.
    """
    kept = 1 - numbers["dampening"]
    first = (torch.tensor(done) == 0).reshape(-1, *[1] * (kept.dim() - 1))
    return dict(numbers) | {
        "share": torch.where(first, torch.ones_like(kept), kept),
        "size": numbers["lr"] * kept / (1 - numbers["momentum"]),
    }


def sgd(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of SGD with momentum: ``v <- momentum v + (1 - dampening) g``."""
    _sgd(weight, gradient, state, numbers, nesterov=False)


def sgd_nesterov(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of SGD with Nesterov's momentum: along ``g + momentum v``."""
    _sgd(weight, gradient, state, numbers, nesterov=True)


def _sgd(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors, nesterov: bool) -> None:
    gradient = gradient + numbers["weight_decay"] * weight
    if state:
        velocity = state["momentum_buffer"]
        velocity.mul_(numbers["momentum"]).add_(numbers["share"] * gradient)
        gradient = gradient + numbers["momentum"] * velocity if nesterov else velocity
    weight.sub_(numbers["lr"] * gradient)
