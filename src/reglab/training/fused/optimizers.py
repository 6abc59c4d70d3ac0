"""SGD, Adam and AdamW as pure functions under ``vmap``: each member has its own hyperparameters.

One ``torch.optim`` optimizer holds one learning rate; these are vmapped over members, whose lr,
momentum, betas and decay are 0-dim tensors. The arithmetic is torch's own, order of operations
included.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from reglab.core.errors import Unfused
from reglab.training.step_size import largest_step, root_mean_squares

Tensors = Mapping[str, Tensor]


StepNumbers = Callable[[Tensors, Tensor, Sequence[int]], dict[str, Tensor]]
"""``(numbers [members], learning rates [steps, members], steps done before each) -> what the updates need``.

The answers are float64 [steps, members] each, or [members] where all steps have the same.
"""
Update = Callable[[Tensor, Tensor, Tensors, Tensors], None]
"""``(weight, gradient, state, numbers)``: moves weight and state in place."""


@dataclass(frozen=True)
class Rule:
    """An optimizer's update rule.

    They have torch's own names, so that ``torch.optim`` can read them from a checkpoint.

    Args:
        numbers: A member's own.
        state_names: Names of the state kept for each weight, in its shape, zeros at first.
        step_numbers: Are computed before the steps, not in them: a compiler would put their powers
            and roots into the loop over each weight, once for every coordinate.
    """

    state_names: tuple[str, ...]
    numbers: Mapping[str, float]
    step_numbers: StepNumbers
    update: Update


def joint_rule(rules: Sequence[Rule]) -> Rule:
    """Return the rule that serves all members of a pack: momentum and decay for all where one has
    them.
    """
    return max(rules, key=lambda rule: (len(rule.state_names), rule.update is not adam_plain))


def rule_of(optimizer: Optimizer) -> Rule:
    """Return the rule of an optimizer and its numbers.

    Raises:
        Unfused: For one that is not known here.
    """
    group = optimizer.param_groups[0]
    if type(optimizer) not in (SGD, Adam, AdamW) or group.get("maximize"):
        raise Unfused(f"the update of {type(optimizer).__name__} is not known to fused training")
    numbers = {key: float(group[key]) for key in ("lr", "weight_decay")}
    if isinstance(optimizer, SGD):
        momentum = float(group["momentum"])
        numbers |= {"momentum": momentum, "dampening": group["dampening"] if momentum else 0.0}
        state_names = ("momentum_buffer",) if momentum else ()
        return Rule(state_names, numbers, sgd_numbers, sgd_nesterov if group["nesterov"] else sgd)
    numbers |= {"beta1": float(group["betas"][0]), "beta2": float(group["betas"][1]), "eps": float(group["eps"])}
    state_names = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
    decayed = adamw if group["decoupled_weight_decay"] else adam
    return Rule(state_names, numbers, adam_numbers, decayed if group["weight_decay"] else adam_plain)


def sgd_numbers(numbers: Tensors, rates: Tensor, done: Sequence[int]) -> dict[str, Tensor]:
    """Return what steps of SGD need: the first velocity is the gradient itself, whatever the
    dampening.
    """
    kept = 1 - numbers["dampening"]
    first = torch.tensor(done)[:, None] == 0
    return dict(numbers) | {
        "lr": rates,
        "share": torch.where(first, torch.ones_like(kept), kept),
        "size": rates * kept / (1 - numbers["momentum"]),
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


def adam_numbers(numbers: Tensors, rates: Tensor, done: Sequence[int]) -> dict[str, Tensor]:
    """Return what steps of Adam need, from double precision: beta2^t keeps its digits over
    thousands of steps.
    """
    beta1, beta2 = numbers["beta1"], numbers["beta2"]
    counts = [steps + 1 for steps in done]
    return dict(numbers) | {
        "lr": rates,
        "gain1": 1 - beta1,
        "gain2": 1 - beta2,
        "step": rates / (1 - powers(beta1, counts)),
        "inverse_root2": (1 - powers(beta2, counts)).rsqrt(),
        "kept": 1 - rates * numbers["weight_decay"],
        "largest": torch.as_tensor(largest_step(rates, beta1, beta2)),
    }


def powers(bases: Tensor, exponents: Sequence[int]) -> Tensor:
    """Return ``base ** exponent``, float64 [exponents, bases], with the bits that Python's floats
    have.

    ``torch.optim`` computes it so; torch's own tensors are rounded by where in a vector they stand.

    Args:
        bases: float64 ``[bases]``.
        exponents: Integers.

    Returns:
        float64 ``[exponents, bases]``.
    """
    distinct, index = torch.unique(bases, return_inverse=True)
    values = [[base**exponent for base in distinct.tolist()] for exponent in exponents]
    return torch.tensor(values, dtype=torch.float64)[:, index]


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
    spread = second_moment.sqrt() * numbers["inverse_root2"] + numbers["eps"]
    weight.sub_(first / spread * numbers["step"])


class MemberLearningRates(Mapping[str, Tensor]):
    """Learning rates by parameter name, the same for all: ``step_size.LearningRates`` of a
    member.
    """

    def __init__(self, numbers: Tensors, names: Sequence[str]) -> None:
        self._numbers, self._names = numbers, names

    def __getitem__(self, name: str) -> Tensor:
        return self._numbers["lr"]

    def relative(self, name: str) -> Tensor:
        """Return the learning rate divided by that which the schedule starts from."""
        return self._numbers["lr"] / self._numbers["base_lr"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class MemberStepSizes(Mapping[str, Tensor]):
    """Effective steps by parameter name after an update, computed when asked for:
    ``step_size.StepSizes``, but pure.

    Args:
        state: By state name and weight; a weight that never has a gradient has zeros.
        clipped: The gradient's factor.
    """

    def __init__(
        self, state: Mapping[str, Tensors], numbers: Tensors, names: Sequence[str], clipped: Tensor | None
    ) -> None:
        self._numbers, self._names, self._clipped = numbers, names, clipped
        self._seconds = state.get("max_exp_avg_sq", state.get("exp_avg_sq"))
        self._typical: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        step = self._numbers["size"] if self._seconds is None else self._by_second_moment(name, self._seconds)
        return step if self._clipped is None else step * self._clipped.to(step.dtype)

    def largest(self, name: str) -> Tensor | None:
        """Return what a proximal step moves a weight by at most, None where nothing bounds it."""
        return self._numbers.get("largest")

    def _by_second_moment(self, name: str, seconds: Tensors) -> Tensor:
        if not self._typical:
            sums = torch.stack([seconds[each].sum() for each in self._names])
            counts = torch.stack([(seconds[each] > 0).sum() for each in self._names]).to(sums.dtype)
            per_parameter, _ = root_mean_squares(sums, counts)
            self._typical = dict(zip(self._names, per_parameter.unbind(), strict=True))
        root = seconds[name].sqrt()
        root = torch.where(root > 0, root, self._typical[name])
        return self._numbers["lr"] / (root * self._numbers["inverse_root2"] + self._numbers["eps"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
