"""SGD, Adam and AdamW as pure functions of one member, so that each member may have its own numbers.

One ``torch.optim`` optimizer holds one learning rate; these are vmapped over members, whose lr, momentum, betas and
decay are 0-dim tensors. The arithmetic is torch's own, order of operations included.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from reglab.errors import Unfused

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Moved:
    """A weight after its update, the optimizer's state of it, and the effective step size, which broadcasts to it."""

    weight: Tensor
    slots: dict[str, Tensor]
    size: Tensor


Update = Callable[[Tensor, Tensor, Tensors, Tensors, Tensor], Moved]
"""``(weight, slope, slots, numbers, steps done) -> Moved``."""


@dataclass(frozen=True)
class Rule:
    """How weights are moved. slots: the state of each weight, in its shape, zeros at first. numbers: a member's own.

    The slots have torch's own names, so that ``torch.optim`` can read them from a checkpoint.
    """

    slots: tuple[str, ...]
    numbers: Mapping[str, float]
    update: Update


def joint_rule(rules: Sequence[Rule]) -> Rule:
    """Return the rule that serves all members of a pack: momentum for all where one has it."""
    return max(rules, key=lambda rule: len(rule.slots))


def rule_of(optimizer: Optimizer) -> Rule:
    """Return the rule of an optimizer and its numbers. Raises Unfused for one that is not known here."""
    group = optimizer.param_groups[0]
    if type(optimizer) not in (SGD, Adam, AdamW) or group.get("maximize"):
        raise Unfused(f"the update of {type(optimizer).__name__} is not known to fused training")
    numbers = {key: float(group[key]) for key in ("lr", "weight_decay")}
    if isinstance(optimizer, SGD):
        momentum = float(group["momentum"])
        numbers |= {"momentum": momentum, "dampening": group["dampening"] if momentum else 0.0}
        slots = ("momentum_buffer",) if momentum else ()
        return Rule(slots, numbers, sgd_nesterov if group["nesterov"] else sgd)
    numbers |= {"beta1": float(group["betas"][0]), "beta2": float(group["betas"][1]), "eps": float(group["eps"])}
    slots = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
    return Rule(slots, numbers, adamw if group["decoupled_weight_decay"] else adam)


def sgd(weight: Tensor, slope: Tensor, slots: Tensors, numbers: Tensors, done: Tensor) -> Moved:
    """Return a step of SGD with momentum: ``v <- momentum v + (1 - dampening) g``, the first ``v`` being ``g``."""
    return _sgd(weight, slope, slots, numbers, done, nesterov=False)


def sgd_nesterov(weight: Tensor, slope: Tensor, slots: Tensors, numbers: Tensors, done: Tensor) -> Moved:
    """Return a step of SGD with Nesterov's momentum: along ``g + momentum v``."""
    return _sgd(weight, slope, slots, numbers, done, nesterov=True)


def _sgd(weight: Tensor, slope: Tensor, slots: Tensors, numbers: Tensors, done: Tensor, nesterov: bool) -> Moved:
    own = _cast(numbers, weight)
    slope = slope + own["weight_decay"] * weight
    size = numbers["lr"] * (1 - numbers["dampening"]) / (1 - numbers["momentum"])
    if not slots:
        return Moved(weight - own["lr"] * slope, {}, size.to(weight.dtype))
    share = torch.where(done == 0, torch.ones_like(own["dampening"]), 1 - own["dampening"])
    velocity = own["momentum"] * slots["momentum_buffer"] + share * slope
    direction = slope + own["momentum"] * velocity if nesterov else velocity
    return Moved(weight - own["lr"] * direction, {"momentum_buffer": velocity}, size.to(weight.dtype))


def adam(weight: Tensor, slope: Tensor, slots: Tensors, numbers: Tensors, done: Tensor) -> Moved:
    """Return a step of Adam (Kingma & Ba 2015), weight decay added to the gradient."""
    decay = numbers["weight_decay"].to(weight.dtype)
    return _adam(weight, slope + decay * weight, slots, numbers, done)


def adamw(weight: Tensor, slope: Tensor, slots: Tensors, numbers: Tensors, done: Tensor) -> Moved:
    """Return a step of AdamW (Loshchilov & Hutter 2019): weights shrink by ``1 - lr * decay`` before the step."""
    kept = (1 - numbers["lr"] * numbers["weight_decay"]).to(weight.dtype)
    return _adam(weight * kept, slope, slots, numbers, done)


def _adam(weight: Tensor, slope: Tensor, slots: Tensors, numbers: Tensors, done: Tensor) -> Moved:
    own = _cast(numbers, weight)
    first = slots["exp_avg"] + (slope - slots["exp_avg"]) * (1 - numbers["beta1"]).to(weight.dtype)
    second = own["beta2"] * slots["exp_avg_sq"] + (1 - numbers["beta2"]).to(weight.dtype) * (slope * slope)
    moved = {"exp_avg": first, "exp_avg_sq": second}
    judged = second
    if "max_exp_avg_sq" in slots:
        judged = moved["max_exp_avg_sq"] = torch.maximum(slots["max_exp_avg_sq"], second)
    # In double precision and then rounded once: beta2 to the power of a thousand steps loses digits in single.
    count = (done + 1).to(numbers["beta1"].dtype)
    correction1 = 1 - numbers["beta1"] ** count
    root2 = (1 - numbers["beta2"] ** count).sqrt()
    spread = judged.sqrt() / root2.to(weight.dtype) + own["eps"]
    step = (numbers["lr"] / correction1).to(weight.dtype)
    return Moved(weight - step * (first / spread), moved, own["lr"] / spread)


def _cast(numbers: Tensors, weight: Tensor) -> dict[str, Tensor]:
    return {key: number.to(weight.dtype) for key, number in numbers.items()}
