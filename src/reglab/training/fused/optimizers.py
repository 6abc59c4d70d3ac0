"""The optimizer's update of a member under ``vmap``, its learning rates and effective steps.

One ``torch.optim`` optimizer holds one learning rate; these are vmapped over members, whose lr,
momentum, betas and decay are 0-dim tensors, or ``[groups]`` where weights are in several param
groups.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reglab.core.errors import Unfused
from reglab.optimizers import FusedRule, UpdateRule, rule_for
from reglab.training.recipe import Recipe, stand_ins
from reglab.training.step_size import root_mean_squares

Tensors = Mapping[str, Tensor]


def rule_of(optimizer: Optimizer) -> UpdateRule:
    """Return the rule of an optimizer that can be fused.

    Raises:
        Unfused: For one whose update is not known here.
    """
    rule = rule_for(type(optimizer))
    if rule is None or any(group.get("maximize") for group in optimizer.param_groups):
        raise Unfused(f"the update of {type(optimizer).__name__} is not known to fused training")
    return rule


def joint_rule(optimizers: Sequence[Optimizer]) -> FusedRule:
    """Return the update that serves all members of a pack: momentum and decay for all where one has
    them.

    Raises:
        Unfused: Where there is none.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return rule_of(optimizers[0]).fused(groups)


def numbers_of(optimizer: Optimizer) -> list[dict[str, float]]:
    """Return what fused training needs of each of an optimizer's param groups."""
    return [rule_of(optimizer).numbers(group) for group in optimizer.param_groups]


def numbered(recipe: Recipe, model: nn.Module) -> tuple[list[str], dict[str, int]]:
    """Return a member's weights as its optimizer numbers them, and the param group of each, by its
    name in the model, where there are several.
    """
    weights = stand_ins(model)
    name_of = {id(weight): name for name, weight in weights.items()}
    made = recipe.build_optimizer(model, weights).param_groups
    groups = [[name_of[id(weight)] for weight in group["params"]] for group in made]
    order = [f"model.{name}" for names in groups for name in names]
    return order, {name: number for number, names in enumerate(groups) for name in names} if len(groups) > 1 else {}


class GroupNumbers:
    """The numbers of a step for each weight, by the param group that it is in.

    Args:
        numbers: 0-dim each, or ``[groups]``.
        groups: Number of its group, by weight; empty where there is one.
    """

    def __init__(self, numbers: Tensors, groups: Mapping[str, int]) -> None:
        self._by_group = [
            {name: number[group] if number.dim() else number for name, number in numbers.items()}
            for group in range(max(groups.values(), default=0) + 1)
        ] if groups else [dict(numbers)]  # fmt: skip
        self._groups = groups

    def __getitem__(self, weight: str) -> dict[str, Tensor]:
        return self._by_group[self._groups.get(weight, 0)]


class MemberLearningRates(Mapping[str, Tensor]):
    """Learning rates by parameter name: ``step_size.LearningRates`` of a member."""

    def __init__(self, numbers: GroupNumbers, names: Sequence[str]) -> None:
        self._numbers, self._names = numbers, names

    def __getitem__(self, name: str) -> Tensor:
        return self._numbers[name]["lr"]

    def relative(self, name: str) -> Tensor:
        """Return the learning rate divided by that which the schedule starts from."""
        return self._numbers[name]["lr"] / self._numbers[name]["base_lr"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class MemberStepSizes(Mapping[str, Tensor]):
    """Effective steps by parameter name after an update, computed when asked for:
    ``step_size.StepSizes``, but pure.

    Args:
        rule: Of the optimizer.
        state: By weight and state name; a weight that never has a gradient has zeros.
        clipped: The gradient's factor.
    """

    def __init__(
        self, rule: FusedRule, state: Mapping[str, Tensors], numbers: GroupNumbers, clipped: Tensor | None
    ) -> None:
        self._rule, self._state, self._numbers, self._clipped = rule, state, numbers, clipped
        self._typical: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        step = self._numbers[name]["size"] if self._rule.second is None else self._by_second_moment(name)
        if self._rule.gain is not None:
            step = step * self._rule.gain(self._state[name], self._numbers[name])
        return step if self._clipped is None else step * self._clipped.to(step.dtype)

    def largest(self, name: str) -> Tensor | None:
        """Return what a proximal step moves a weight by at most, None where nothing bounds it."""
        return self._numbers[name].get("largest")

    def _second(self, name: str) -> Tensor:
        assert self._rule.second is not None
        return self._rule.second(self._state[name], self._numbers[name])

    def _by_second_moment(self, name: str) -> Tensor:
        if not self._typical:
            names = list(self._state)
            seconds = [self._second(each) for each in names]
            sums = torch.stack([second.sum() for second in seconds])
            counts = torch.stack([(second > 0).sum() for second in seconds]).to(sums.dtype)
            per_parameter, _ = root_mean_squares(sums, counts)
            self._typical = dict(zip(names, per_parameter.unbind(), strict=True))
        numbers, root = self._numbers[name], self._second(name).sqrt()
        root = torch.where(root > 0, root, self._typical[name])
        return numbers["size"] / (root * numbers["root"] + numbers["eps"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)
