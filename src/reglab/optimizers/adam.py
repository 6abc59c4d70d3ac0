"""Adam and AdamW, with AMSGrad."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from reglab.optimizers.rule import FusedRule, Group, Number, Scale, Tensors, UpdateRule, common, double


class Adam(UpdateRule):
    """``torch.optim.Adam`` and ``torch.optim.AdamW``."""

    serves: ClassVar[tuple[str, ...]] = ("torch.optim.adam.Adam", "torch.optim.adamw.AdamW")

    def scale(self, group: Group, state: Mapping[str, Any], lr: Number) -> Scale:
        if not state:
            return Scale(lr, adaptive=True, eps=group["eps"])
        # The count is kept in float32, whose power would be off in the sixth digit.
        correction = 1 - double(group["betas"][1]) ** double(state["step"])
        second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
        return Scale(lr, True, second, correction, group["eps"])

    def largest(self, group: Group, state: Mapping[str, Any], lr: Number) -> Number | None:
        return largest_step(lr, *map(double, group["betas"]))

    def numbers(self, group: Group) -> dict[str, float]:
        found = {key: float(group[key]) for key in ("lr", "weight_decay", "eps")}
        return found | {"beta1": float(group["betas"][0]), "beta2": float(group["betas"][1])}

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        second = "max_exp_avg_sq" if common(groups, "amsgrad") else "exp_avg_sq"
        state_names = tuple(dict.fromkeys(("exp_avg", "exp_avg_sq", second)))
        decayed = adamw if common(groups, "decoupled_weight_decay") else adam
        update = decayed if any(group["weight_decay"] for group in groups) else adam_plain
        return FusedRule(state_names, step_numbers, update, lambda state, _: state[second])


def step_numbers(numbers: Tensors, done: Sequence[int]) -> dict[str, Tensor]:
    """Return what steps of Adam need, from double precision: beta2^t keeps its digits over
    thousands of steps.
    """
    rates, beta1, beta2 = numbers["lr"], numbers["beta1"], numbers["beta2"]
    counts = [steps + 1 for steps in done]
    return dict(numbers) | {
        "gain1": 1 - beta1,
        "gain2": 1 - beta2,
        "step": rates / (1 - powers(beta1, counts)),
        "size": rates,
        "root": (1 - powers(beta2, counts)).rsqrt(),
        "kept": 1 - rates * numbers["weight_decay"],
        "largest": torch.as_tensor(largest_step(rates, beta1, beta2)),
    }


def largest_step(lr: Number, beta1: Number, beta2: Number) -> Number:
    """Return twice the most that one step of Adam moves a weight by (Kingma & Ba 2015, section
    2.1).

    ``|m_hat| / sqrt(v_hat)`` is at most ``max(1, (1 - beta1) / sqrt(1 - beta2))``. A proximal step
    that is bounded by the double of it still undoes any step away from 0, so it has the same fixed
    points: it is bounded only where the root mean square of the loss's gradient is below half the
    penalty's, and where the penalty leaves a weight other than 0, the mean of the loss's gradient
    is as large as the penalty's.

    Args:
        lr: The learning rate.
        beta1: Of Adam.
        beta2: Of Adam.
    """
    share = (1 - beta1) / (1 - beta2) ** 0.5
    bound = share.clamp(min=1) if isinstance(share, Tensor) else max(1.0, share)
    return 2 * lr * bound


def powers(bases: Tensor, exponents: Sequence[int]) -> Tensor:
    """Return ``base ** exponent`` with the bits that Python's floats have.

    ``torch.optim`` computes it so; torch's own tensors are rounded by where in a vector they stand.

    Args:
        bases: float64 ``[1, ...]``, or ``[exponents, ...]``.
        exponents: Integers.

    Returns:
        float64 ``[exponents, ...]``.
    """
    distinct, index = torch.unique(bases, return_inverse=True)
    values = [[base**exponent for base in distinct.tolist()] for exponent in exponents]
    table = torch.tensor(values, dtype=torch.float64)
    index = index.expand(len(exponents), *bases.shape[1:])
    return table.gather(1, index.reshape(len(exponents), -1)).reshape(index.shape)


def adam(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of Adam (Kingma & Ba 2015), weight decay added to the gradient."""
    adam_plain(weight, gradient + numbers["weight_decay"] * weight, state, numbers)


def adamw(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of AdamW (Loshchilov & Hutter 2019): weights shrink by ``1 - lr * decay`` before
    the step.
    """
    weight.mul_(numbers["kept"])
    adam_plain(weight, gradient, state, numbers)


def adam_plain(weight: Tensor, gradient: Tensor, state: Tensors, numbers: Tensors) -> None:
    """Take a step of Adam: move by ``lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)``."""
    # No addcmul_ and addcdiv_: vmap has no rule for them and would go through the members one by
    # one.
    first, second = state["exp_avg"], state["exp_avg_sq"]
    first.mul_(numbers["beta1"]).add_(numbers["gain1"] * gradient)
    second.mul_(numbers["beta2"]).add_(numbers["gain2"] * gradient * gradient)
    second_moment = second
    if "max_exp_avg_sq" in state:
        second_moment = state["max_exp_avg_sq"]
        second_moment.copy_(torch.maximum(second_moment, second))
    spread = second_moment.sqrt() * numbers["root"] + numbers["eps"]
    weight.sub_(first / spread * numbers["step"])
