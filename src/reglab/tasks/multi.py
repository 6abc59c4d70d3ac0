"""Several targets, each with a task of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reglab.tasks.base import Scale, Task


@dataclass(frozen=True)
class Target:
    """One of several targets.

    Args:
        name: Of its column.
        task: By which it is judged; a target of one number.
        weight: Of its loss in the sum.
        classes: How many there are, where it is one; else 1.
    """

    name: str
    task: Task
    weight: float = 1.0
    classes: int = 1

    @property
    def width(self) -> int:
        """Of the outputs that are its own."""
        return self.task.outputs(self.classes, 1)

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of its loss and scores among those of all, the score of the task first."""
        return tuple(f"{self.name}/{score}" for score in (self.task.score, "loss", *self.task.also))

    def __str__(self) -> str:
        """As it stands in the name of the task."""
        factor = "" if self.weight == 1 else f"{str(self.weight).removesuffix('.0')}*"
        classes = f":{self.classes}" if self.task.classes and self.task.integers else ""
        return f"{self.name}={factor}{self.task.name}{classes}"

    def number(self, targets: Tensor) -> Tensor:
        """Return its targets as the task takes them, of a column ``[...]``."""
        return targets.long() if self.task.integers else targets


class Multi(Task):
    """The weighted sum of the losses of several targets: outputs ``[..., rows, widths]``, those of
    each target beside each other, targets ``[rows, targets]``.

    A row's statistics are those of the targets, one after the other.

    Args:
        targets: In the order of their columns.
    """

    decides = False
    nonnegative = True

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(targets)
        self.name = f"multi({','.join(map(str, targets))})"
        self.score, *also = (score for target in targets for score in target.scores)
        self.also = tuple(also)
        every = [f"{target.name}/{score}" for target in targets for score in target.task.scores]
        self.others = tuple(score for score in every if score not in (self.score, *also))
        self.from_statistics = tuple(
            f"{target.name}/{score}" for target in targets for score in ("loss", *target.task.from_statistics)
        )
        terms = (f"{target.weight:g} x the loss of {target.name} ({target.task.name})" for target in targets)
        self.note = f"The loss is {' + '.join(terms)}, each of the target as it is trained on."

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        width = sum(target.width for target in self.targets)
        fits = targets.dim() == 2 and targets.shape[1] == len(self.targets) and outputs.dim() >= 2
        return outputs if fits and outputs.shape[-2:] == (len(targets), width) else None

    def parts(self, aligned: Tensor, targets: Tensor) -> list[tuple[Target, Tensor, Tensor]]:
        """Return each target with its aligned outputs and its numbers.

        Args:
            aligned: ``[..., rows, widths]``.
            targets: ``[..., rows, targets]``.
        """
        blocks = aligned.split([target.width for target in self.targets], -1)  # type: ignore[no-untyped-call]  # torch's
        found = []
        for target, block, column in zip(self.targets, blocks, targets.unbind(-1), strict=True):
            numbers = target.number(column)
            one_set = numbers.reshape(-1, numbers.shape[-1])[0]  # members' sets have the same shape
            found.append((target, target.task.align(block, one_set), numbers))
        return found

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        parts = self.parts(aligned, targets)
        return torch.stack([target.weight * target.task.losses(*each) for target, *each in parts]).sum(0)

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        return torch.cat([target.task.statistics(*each) for target, *each in self.parts(aligned, targets)])

    def statistics_of(self, losses: Tensor, aligned: Tensor, targets: Tensor) -> Tensor:
        found = []
        for target, own, numbers in self.parts(aligned, targets):
            found.append(target.task.statistics_of(target.task.losses(own, numbers), own, numbers))
        return torch.cat(found)

    @property
    def statistic_counts(self) -> list[int]:
        """How many statistics each target has."""
        return [target.task.statistic_count(target.width) for target in self.targets]

    def statistic_count(self, outputs: int) -> int:
        return sum(self.statistic_counts)

    def losses_of(self, statistics: Tensor) -> Tensor:
        blocks = statistics.split(self.statistic_counts)  # type: ignore[no-untyped-call]  # torch leaves it so
        each = zip(self.targets, blocks, strict=True)
        return torch.stack([target.weight * target.task.losses_of(block) for target, block in each]).sum(0)

    def scale(self, targets: Tensor) -> Scale:
        columns = zip(self.targets, targets.unbind(-1), strict=True)
        scales = [target.task.scale(column) for target, column in columns if not target.task.decides]
        return Scale(*map(torch.cat, zip(*scales, strict=True))) if scales else super().scale(targets)

    def scaled(self, columns: int) -> list[bool]:
        return [target.task.standardizes for target in self.targets]

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        columns = zip(self.targets, targets.unbind(-1), strict=True)
        return torch.cat([target.task.constant(target.number(column), target.width) for target, column in columns])

    def outputs(self, names: int, columns: int) -> int:
        return sum(target.width for target in self.targets)
