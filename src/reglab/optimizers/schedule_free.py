"""Schedule-free AdamW and SGD: the weights step without momentum, and their average is the model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from reglab.core.errors import UserError
from reglab.optimizers.rule import ByStep, FusedRule, Group, Number, Scale, Tensors, common


class ScheduleFree(Optimizer):
    """Moves ``z``: ``z <- z - lr g / (sqrt(v_hat) + eps)``, or ``z <- z - lr g`` where not adaptive.

    The gradient is taken between ``z`` and the average of its path, and the model that is measured,
    saved and loaded is that average: ``reglab.training.optimizer_average.ScheduleFreeAverage``,
    which whoever trains by this optimizer adds. ``beta`` is that one's. Momentum there is none: the
    average takes its place.

    Args:
        params: Weights, or param groups.
        lr: The learning rate, > 0; one to ten times that of a run with a schedule.
        beta: How far from ``z`` to the average gradients are taken, 0 <= beta < 1.
        adaptive: AdamW, else SGD.
        beta2: Of the second moment, 0 <= beta2 < 1.
        eps: Added to its root.
        weight_decay: Decoupled, of ``z``, >= 0.

    Source:
        Defazio et al. (2024), The road less scheduled, arXiv:2405.15682.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2.5e-3,
        beta: float = 0.9,
        adaptive: bool = True,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not lr > 0 or not weight_decay >= 0 or not eps >= 0 or not all(0 <= each < 1 for each in (beta, beta2)):
            raise UserError(
                "ScheduleFree needs lr > 0, beta and beta2 in [0, 1), eps >= 0 and weight_decay >= 0, got "
                f"lr={lr}, beta={beta}, beta2={beta2}, eps={eps}, weight_decay={weight_decay}"
            )
        numbers = {"lr": lr, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**numbers, "adaptive": adaptive})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step of ``z``; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            numbers, update = _RULE.numbers(group), adamw if group["adaptive"] else sgd
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.zeros(())
                    if group["adaptive"]:
                        state["exp_avg_sq"] = torch.zeros_like(weight)
                state["step"] += 1
                update(weight, weight.grad, state, _RULE.at(numbers, int(state["step"])))  # type: ignore[arg-type]  # floats
        return loss


class ScheduleFreeRule(ByStep):
    """``reglab.optimizers.schedule_free.ScheduleFree``."""

    serves: ClassVar[tuple[str, ...]] = ("reglab.optimizers.schedule_free.ScheduleFree",)
    refused: ClassVar[str] = "the model is an average of weights, which has no exact zeros"
    keys: ClassVar[tuple[str, ...]] = ("beta2", "eps")

    def scale(self, group: Group, state: Mapping[str, Any], lr: Number) -> Scale:
        raise UserError(self.refused)

    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        rate, beta2 = numbers["lr"], numbers["beta2"]
        return dict(numbers) | {
            "gain2": 1 - beta2,
            "kept": 1 - rate * numbers["weight_decay"],
            "root": (1 - beta2**step) ** -0.5,
            "size": rate,
        }

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        adaptive = common(groups, "adaptive")
        return FusedRule(("exp_avg_sq",) if adaptive else (), self.step_numbers, adamw if adaptive else sgd)


_RULE = ScheduleFreeRule()


def adamw(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of AdamW without momentum."""
    weight.mul_(numbers["kept"])
    second = state["exp_avg_sq"]
    second.mul_(numbers["beta2"]).add_(numbers["gain2"] * gradient * gradient)
    weight.sub_(numbers["lr"] * gradient / (second.sqrt() * numbers["root"] + numbers["eps"]))


def sgd(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of SGD without momentum, its decay decoupled."""
    weight.mul_(numbers["kept"])
    weight.sub_(numbers["lr"] * gradient)
