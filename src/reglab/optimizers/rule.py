"""What proximal steps and fused training need to know of an optimizer: its update, coordinate by
coordinate.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from reglab.core.errors import Unfused

Number = float | Tensor
"""A float where the host knows the number, otherwise 0-dim on the device: a transfer would
synchronize the two.
"""
Tensors = Mapping[str, Tensor]
Group = Mapping[str, Any]
"""A param group of ``torch.optim``."""


class Scale(NamedTuple):
    """The effective step ``rate * gain / (sqrt(second / correction) + eps)`` of each coordinate.

    Args:
        rate: Alone the step where it is not adaptive.
        adaptive: Whether there is a second moment.
        second: In the weight's shape, 0 where there never was a gradient; None: nowhere there was.
        correction: By which the second moment is divided.
        eps: Added to its root.
        gain: In the weight's shape, if not 1.
    """

    rate: Number
    adaptive: bool = False
    second: Tensor | None = None
    correction: Number = 1.0
    eps: Number = 0.0
    gain: Tensor | None = None


StepNumbers = Callable[[Tensors, Sequence[int]], dict[str, Tensor]]
"""``(numbers [steps, members], steps done before each) -> what the updates need``.

All float64; the first axis is 1 where all steps have the same, and where there are several param
groups they are the last axis.
"""
Update = Callable[[Tensor, Tensor, Tensors, Tensors], None]
"""``(weight, gradient, state, numbers)``: moves weight and state in place."""


@dataclass(frozen=True)
class FusedRule:
    """An update as a pure function under ``vmap``: each member has its own numbers.

    The arithmetic is the optimizer's own, order of operations included, and so are the names of its
    state: ``torch.optim`` can read them from a checkpoint.

    Args:
        state_names: Of the state kept for each weight, in its shape.
        step_numbers: Are computed before the steps, not in them: a compiler would put their powers
            and roots into the loop over each weight, once for every coordinate.
        update: Of one weight.
        second: The second moment of ``Scale``, from a weight's state and the step's numbers; None: the
            number ``size`` is the step.
        gain: The gain of ``Scale``, from the same.
        initial: Names of numbers that a state starts from instead of 0, by the state's name.
        count: The 0-dim state that torch keeps beside, from a member's numbers and the steps done.
    """

    state_names: tuple[str, ...]
    step_numbers: StepNumbers
    update: Update
    second: Callable[[Tensors, Tensors], Tensor] | None = None
    gain: Callable[[Tensors, Tensors], Tensor] | None = None
    initial: Mapping[str, str] = field(default_factory=dict)
    count: Callable[[Mapping[str, float], int], dict[str, float]] = lambda numbers, done: {"step": float(done)}


_rules: dict[str, type["UpdateRule"]] = {}


class UpdateRule(ABC):
    """What is known of an optimizer. A class derived from this one, with the optimizer's path in
    ``serves``, is found as soon as it is defined: write it beside an optimizer of your own.

    Attributes:
        serves: Paths of optimizer classes, as they name themselves.
        refused: Why no proximal step fits it; empty: they do.
        by_element: Whether each coordinate is updated by itself, so that a weight may be sharded.
    """

    serves: ClassVar[tuple[str, ...]]
    refused: ClassVar[str] = ""
    by_element: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for path in cls.__dict__.get("serves", ()):
            _rules[path] = cls

    @abstractmethod
    def scale(self, group: Group, state: Mapping[str, Any], lr: Number) -> Scale:
        """Return the effective step after an update.

        It is what a constant gradient ``g`` moves a weight by in each step, divided by ``g``: a
        proximal step of that size has the minimum of loss and penalty as its fixed point.

        Args:
            group: Of the optimizer.
            state: Of the weight; empty where it has had no update.
            lr: The learning rate.
        """

    def largest(self, group: Group, state: Mapping[str, Any], lr: Number) -> Number | None:
        """Return what a proximal step moves a weight by at most, None where nothing bounds it.

        Args:
            group: Of the optimizer.
            state: Of the weight.
            lr: The learning rate.
        """
        return None

    def numbers(self, group: Group) -> dict[str, float]:
        """Return the numbers of a group that fused training needs, the learning rate ``lr`` among
        them.
        """
        raise Unfused(f"the update of {type(self).__name__} is not known to fused training")

    def fused(self, groups: Sequence[Group]) -> FusedRule:
        """Return the update that serves all these groups.

        Raises:
            Unfused: Where there is none.
        """
        raise Unfused(self.refused or "its update is not known to fused training")


class ByStep(UpdateRule):
    """A rule whose numbers are plain functions of the step: written once, for one job and for
    packs.
    """

    keys: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def at(self, numbers: Mapping[str, float], step: int) -> dict[str, float]:
        """Return what the update number ``step``, from 1 on, needs.

        Args:
            numbers: As ``numbers`` returns them.
            step: Of the update.

        Returns:
            Plain numbers, ``size``, ``root`` and ``eps`` among them: the effective step is ``size /
            (sqrt(second) * root + eps)``, and ``size`` alone where ``root`` is 0; and ``largest``
            where a step is bounded.
        """

    def numbers(self, group: Group) -> dict[str, float]:
        found = {key: float(group[key]) for key in ("lr", "weight_decay", *self.keys)}
        if "betas" in group:
            found |= {"beta1": float(group["betas"][0]), "beta2": float(group["betas"][1])}
        return found

    def second(self, state: Mapping[str, Any], numbers: Mapping[str, Number]) -> Tensor | None:
        """Return the second moment from a weight's state and the numbers of ``at``."""
        return None

    def gain(self, state: Mapping[str, Any], numbers: Mapping[str, Number]) -> Tensor | None:
        """Return the gain from the same."""
        return None

    def scale(self, group: Group, state: Mapping[str, Any], lr: Number) -> Scale:
        at = self._at(group, state, lr)
        if not at["root"]:
            return Scale(at["size"], gain=self.gain(state, at) if state else None)
        if not state:
            return Scale(at["size"], adaptive=True, eps=at["eps"])
        return Scale(at["size"], True, self.second(state, at), at["root"] ** -2, at["eps"])

    def largest(self, group: Group, state: Mapping[str, Any], lr: Number) -> Number | None:
        return self._at(group, state, lr).get("largest")

    def _at(self, group: Group, state: Mapping[str, Any], lr: Number) -> dict[str, float]:
        return self.at({**self.numbers(group), "lr": float(lr)}, max(1, int(state.get("step", 1))))

    def step_numbers(self, numbers: Tensors, done: Sequence[int]) -> dict[str, Tensor]:
        """Return ``at`` of each step and member: ``StepNumbers``."""
        keys = list(numbers)
        shape = numbers["lr"].shape  # of each step, member and group
        counts = _counts(done, len(shape))
        columns = [counts.expand(shape), *(number.expand(shape) for number in numbers.values())]
        rows = torch.stack(columns, -1).reshape(-1, len(columns))
        distinct, index = torch.unique(rows, dim=0, return_inverse=True)
        answers = [self.at(dict(zip(keys, row, strict=True)), int(step)) for step, *row in distinct.tolist()]
        return {
            name: torch.tensor([answer[name] for answer in answers], dtype=torch.float64)[index].reshape(shape)
            for name in sorted(answers[0])  # the same order whatever ``at`` does at a step
        }


def _counts(done: Sequence[int], dimensions: int) -> Tensor:
    return torch.tensor([steps + 1.0 for steps in done], dtype=torch.float64).reshape(-1, *[1] * (dimensions - 1))


def common(groups: Sequence[Group], key: str) -> Any:
    """Return what all param groups have under ``key``.

    Raises:
        Unfused: Where they differ.
    """
    if len({repr(group[key]) for group in groups}) > 1:
        raise Unfused(f"they differ in {key}")
    return groups[0][key]


def double(number: Number) -> Number:
    """Return a number of the optimizer in double precision, where it is."""
    if not isinstance(number, Tensor) or number.device.type == "cpu":
        return float(number)
    return number if number.device.type == "mps" else number.double()  # the former has no double precision


def rule_for(optimizer: type[Optimizer]) -> UpdateRule | None:
    """Return what is known of an optimizer's class, None for one that nobody described.

    A class derived from a known one may step otherwise, and is not known by that.
    """
    found = _rules.get(f"{optimizer.__module__}.{optimizer.__qualname__}")
    return None if found is None else _instance(found)


def named_like(optimizer: type[Optimizer]) -> str:
    """Return the path of a known class that takes proximal steps and has the name of ``optimizer``,
    such as torch's ``Adam`` for another package's; empty where there is none.
    """
    name = optimizer.__name__.removesuffix("8bit").removesuffix("32bit")
    found = (path for path, rule in _rules.items() if path.endswith(f".{name}") and not rule.refused)
    return next((path for path in found if path.startswith(("torch.", "reglab."))), "")


@cache
def _instance(rule: type[UpdateRule]) -> UpdateRule:
    return rule()
