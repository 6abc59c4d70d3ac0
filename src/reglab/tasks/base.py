"""The contract of a task: losses, statistics and decisions of each example, and what it asks of
data.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.rng import counter_rng
from reglab.tasks.answers import Answers

_NO_FIT = (
    "{name}: outputs of shape {outputs} do not fit targets of shape {targets}; check the model's output size and "
    "data.target"
)


class Scale(NamedTuple):
    """What a score needs to know of the targets.

    Args:
        variance: ``[columns]``, the mean loss of the best constant (of a regression the variance);
            1 where targets are constant.
        constant: bool ``[columns]``.
        squares: Each row's loss by the best constant, relative to their mean, ``[columns, rows]``.
            Empty where rows are decided.
    """

    variance: Tensor
    constant: Tensor
    squares: Tensor


class Task(ABC):
    """What the outputs of a model are judged against. All methods are pure functions of tensors.

    Outputs may have leading axes (members of a pack); targets are shared by them. A row of a data
    set is one example. Either ``decides``, and a row's statistics are its loss and its share of
    right decisions, or they are its losses by column, and the score is the share of the best
    constant's loss that the model explains.
    """

    name: str
    """What users write, such as ``data.task=regression``."""
    score: str = "accuracy"
    """The score that is always measured."""
    also: tuple[str, ...] = ()
    """Scores that are measured beside it in any case."""
    others: Sequence[str] = ()
    """Scores that ``measure.scores`` may ask for."""
    from_statistics: tuple[str, ...] = ("accuracy",)
    """Scores that follow from the statistics alone; the others need outputs and targets."""
    means: Mapping[str, int] = MappingProxyType({})
    """Of these, the ones that are the mean of a statistic, and of which."""
    decides: bool = True
    """Whether rows are decided, rightly or wrongly: the score is then the mean of the second
    statistic.
    """
    exclusive: bool = False
    """Whether the columns of ``answers`` are classes whose probabilities add up to 1."""
    per_example: bool = True
    """Whether each example has a loss of its own; otherwise it depends on the rows of its
    ``groups``.
    """
    fewest: int = 1
    """Rows that a measured part has at least."""

    nonnegative: bool = True
    """Whether no loss is below 0."""
    key: object = None
    """What tells a loss of the user's from others; None: it is the task's own."""
    why_solo: str = ""
    """Why the loss cannot be vmapped over the members of a pack; empty if it can."""

    classes: bool = False
    """Whether a row's target is one class: rows can be stratified and weighted by it."""
    integers: bool = False
    """Whether targets are int64."""
    standardizes: bool = False
    """Whether targets may be scaled to mean 0 and deviation 1."""
    reads: Literal["classes", "levels", "numbers", "labels", "dense", "times", "queries"] = "numbers"
    """What a target column holds: classes, classes in an order, numbers, 0 and 1 by label, times
    and events, relevance to queries; or classes of several positions, of which there is no table.
    """
    note: str = ""
    """What readers of its results have to know of the loss."""
    of_predictions: str = ""
    """What readers of its predictions have to know of the numbers."""

    @property
    def scores(self) -> tuple[str, ...]:
        """All scores that it has."""
        return (self.score, *self.also, *self.others, *(("kappa",) if self.classes else ()))

    def align(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``outputs`` in at least float32 and in the shape that the losses take.

        Raises:
            UserError: For shapes that do not fit each other.
        """
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()  # a mean of half-precision losses loses digits that a gap needs
        fitting = self.fitting(outputs, targets)
        if fitting is None:
            raise UserError(
                _NO_FIT.format(name=self.name, outputs=list(outputs.shape), targets=list(targets.shape)),
            )
        return fitting

    @abstractmethod
    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Return outputs of at least float32 in the shape that the losses take; None where they do
        not fit the targets.
        """

    @abstractmethod
    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each example, ``[..., rows]``, of aligned outputs."""

    @abstractmethod
    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        """Return what loss and score of any weighting of the rows follow from,
        ``[statistics, ..., rows]``, of aligned outputs.
        """

    def statistics_of(self, losses: Tensor, aligned: Tensor, targets: Tensor) -> Tensor:
        """Return the statistics of aligned outputs whose losses are known."""
        return torch.stack([losses, self.shares(aligned, targets).to(losses.dtype)])

    def statistic_count(self, outputs: int) -> int:
        """Return how many statistics a row has.

        Args:
            outputs: Width of the outputs.
        """
        return 2

    def losses_of(self, statistics: Tensor) -> Tensor:
        """Return the losses ``[...]`` from statistics, or weighted means of statistics,
        ``[statistics, ...]``.
        """
        return statistics[0]

    def log_losses(self, statistics: Tensor, aligned: Tensor | None, targets: Tensor | None) -> Tensor:
        """Return ``-log p(target)`` of each example, where the task has probabilities."""
        return self.losses_of(statistics)

    def columns_of(self, statistics: Tensor) -> Tensor:
        """Return the losses by column ``[columns, ...]`` that the score follows from, where rows
        are not decided.
        """
        return statistics

    def groups(self, rows: int) -> Tensor | None:
        """Return the number of each row's group, int64 ``[rows]`` from 0, where the losses of rows
        that are measured together depend on each other; None where they do not.

        Args:
            rows: That are measured.
        """
        return None

    def scaled(self, columns: int) -> list[bool]:
        """Return which of the target's columns may be scaled to mean 0 and deviation 1."""
        return [self.standardizes] * columns

    def scale(self, targets: Tensor) -> Scale:
        """Return the scale of targets, ``[rows]`` or ``[rows, columns]``."""
        return Scale(*(targets.new_zeros(0) for _ in Scale._fields))

    def decide(self, aligned: Tensor) -> Tensor:
        """Return the decision for each target, int64."""
        raise NotImplementedError

    def shares(self, aligned: Tensor, targets: Tensor) -> Tensor:
        """Return each example's share of right decisions, ``[..., rows]``."""
        return (self.decide(aligned) == targets).to(aligned.dtype)

    def answers(self, aligned: Tensor, targets: Tensor) -> Answers:
        """Return outputs and decisions by column.

        Args:
            aligned: Outputs, ``[..., rows, ...]``.
            targets: ``[..., rows, ...]``, leading axes as those of the outputs or of length 1.
        """
        raise NotImplementedError

    def for_metrics(self, aligned: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and targets of one model as torchmetrics takes them: probabilities
        ``[rows, classes, ...]`` and whole numbers, where the task has classes.
        """
        return aligned, targets

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """Return the probability of each class or label, ``[rows, classes]``, of a model's outputs;
        None where the task has none.

        Args:
            outputs: ``[rows, ...]``.
        """
        return None

    def quantities(self, outputs: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what the outputs say of targets that are no classes, each ``[rows]``, by name.

        Args:
            outputs: ``[rows, ...]``, in the unit of the targets.
            names: Of the target columns.
        """
        columns = outputs.reshape(len(outputs), -1).unbind(1)
        if len(columns) == 1:
            return {"prediction": columns[0]}
        if len(columns) != len(names):
            names = [str(number) for number in range(len(columns))]
        return {f"prediction_{name}": column for name, column in zip(names, columns, strict=True)}

    @abstractmethod
    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        """Return the outputs ``[outputs, ...]`` of the best constant predictor, of one row.

        Where it predicts the distribution of the targets, half an example is added to each class
        (Krichevsky & Trofimov 1981), so that one that the training part lacks is not impossible.

        Args:
            targets: Of the training part, ``[rows, ...]``.
            outputs: Width of the outputs.
        """

    def uniform_losses(self, outputs: Tensor) -> Tensor:
        """Return each example's cross entropy against the uniform target, ``[rows]``."""
        raise NotImplementedError

    def width(self, outputs: Tensor) -> int:
        """Return the width of a model's outputs ``[rows, ...]``."""
        return outputs.shape[-1] if outputs.dim() > 1 else 1

    def outputs(self, names: int, columns: int) -> int:
        """Return the width that a model's outputs need.

        Args:
            names: Classes, where there are.
            columns: Of the targets.
        """
        return names if self.integers else columns

    def check_targets(self, values: Tensor) -> str:
        """Return what is wrong with the numbers of a target, empty if nothing is."""
        return ""

    def wrong_targets(self, targets: Tensor, index: Tensor, outputs: int, key: Tensor) -> Tensor:
        """Return a wrong target for each row: that of another row, uniformly.

        Args:
            targets: ``[rows, ...]``.
            index: int64 ``[rows]``, the key of each row's draws.
            outputs: Width of the outputs.
            key: Of the draws.
        """
        others = len(targets) - 1
        steps = 1 + (counter_rng.uniform(key, index).double() * others).long().clamp(max=max(others - 1, 0))
        return targets[(torch.arange(len(targets)) + steps) % len(targets)]
