"""Adadelta."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from reglab.optimizers.rule import ByStep, FusedRule, Group, Number, Tensors


class Adadelta(ByStep):
    """``torch.optim.Adadelta``.

    Its step is scaled by the mean square of past steps, which the update itself moves: the
    effective step is that of the next update, and the same once training has settled.

    Source:
        Zeiler (2012), arXiv:1212.5701.
    """

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.adadelta.Adadelta",)
    keys: ClassVar[tuple[str, ...]] = ("rho", "eps")

    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        return dict(numbers) | {"kept": 1 - numbers["rho"], "size": numbers["lr"], "root": 0.0}

    def gain(self, state: Mapping[str, Any], numbers: Mapping[str, Number]) -> Tensor:
        ratio: Tensor = (state["acc_delta"] + numbers["eps"]) / (state["square_avg"] + numbers["eps"])
        return ratio.sqrt()

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        return FusedRule(("square_avg", "acc_delta"), self.step_numbers, update, gain=self.gain)


def update(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Move by ``lr g rms(past steps) / rms(past gradients)``."""
    gradient = gradient + numbers["weight_decay"] * weight
    state["square_avg"].mul_(numbers["rho"]).add_(numbers["kept"] * gradient * gradient)
    spread = (state["square_avg"] + numbers["eps"]).sqrt()
    moved = (state["acc_delta"] + numbers["eps"]).sqrt() / spread * gradient
    state["acc_delta"].mul_(numbers["rho"]).add_(numbers["kept"] * moved * moved)
    weight.sub_(numbers["lr"] * moved)
