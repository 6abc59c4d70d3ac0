"""Loader of row numbers: order by (seed, epoch), many optimizer steps per Lightning batch."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from reglab.rng import counter_rng
from reglab.training.recipe import Recipe


def epoch_order(rows: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the rows in an epoch, int64 [rows]: the same on every rank, device and
    resume.

    Args:
        rows: Number of rows.
        seed: Of the run.
        epoch: Counted from 0.

    Returns:
        int64 ``[rows]``.
    """
    return counter_rng.permutation(counter_rng.key(seed, counter_rng.name_number("order"), epoch), rows)


def step_rows(order: Tensor, batch_rows: int) -> list[Tensor]:
    """Return the rows of each optimizer step of an epoch, the last with what remains.

    A single remaining row joins the step before it: BatchNorm cannot train on one row.

    Args:
        order: int64 ``[rows]``.
        batch_rows: Rows of a step.

    Returns:
        One tensor of row numbers for each step.

    Example:
        >>> step_rows(torch.arange(7), 3)  # a single row joins the step before it
        [tensor([0, 1, 2]), tensor([3, 4, 5, 6])]
    """
    parts = list(torch.split(order, batch_rows))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


class Share(NamedTuple):
    """One part of a step's rows.

    Args:
        factor: What its mean loss counts in the mean over parts, so that this is the mean over all
            rows. It is 0 where there was no row left for the part: ``rows`` then has one that
            stands in.
    """

    rows: Tensor
    factor: float


def share(rows: Tensor, part: int, parts: int) -> Share:
    """Return the share of ``part`` among ``parts`` that take a step's rows one after the other:
    ranks, or microbatches.

    Parts begin at an even index, so that mixup pairs the same neighbours in any number of parts,
    and differ by a pair of rows at most.

    Args:
        rows: int64 ``[rows]``, of a step.
        part: The number of the part, from 0.
        parts: Number of parts.

    Example:
        >>> share(torch.arange(5), part=0, parts=2), share(torch.arange(5), part=1, parts=2)
        (Share(rows=tensor([0, 1]), factor=0.8), Share(rows=tensor([2, 3, 4]), factor=1.2))
    """
    if parts == 1:
        return Share(rows, 1.0)
    pairs, spare = divmod(len(rows) // 2, parts)
    begin, end = (2 * (pairs * each + min(each, spare)) for each in (part, part + 1))
    part_rows = rows[begin:] if part == parts - 1 else rows[begin:end]
    return Share(part_rows, len(part_rows) * parts / len(rows)) if len(part_rows) else Share(rows[:1], 0.0)


class EpochSteps:
    """Epochs of optimizer steps, in chunks, of which a Lightning batch is one.

    Where it begins follows from the number of steps that were done, so a resumed run continues with
    the next rows, also in the middle of an epoch.

    Args:
        rows: Of the training part.
        batch_size: Rows of a step.
        recipe: With the steps of a chunk, of an epoch and in all.
        done: Returns the number of optimizer steps done so far.

    Attributes:
        per_epoch: Optimizer steps of an epoch.
        sizes: Rows of each of them.
    """

    def __init__(self, rows: int, batch_size: int, recipe: Recipe, done: Callable[[], int]) -> None:
        self.rows, self.batch_size, self.recipe, self.done = rows, batch_size, recipe, done
        self.sizes = [len(part) for part in step_rows(torch.arange(rows), batch_size)][: recipe.limit]
        self.per_epoch = len(self.sizes)

    @property
    def total(self) -> int:
        """Optimizer steps in all."""
        return self.recipe.steps or self.recipe.epochs * self.per_epoch

    @property
    def inside_epoch(self) -> bool:
        """Whether some steps of the present epoch are still to be taken."""
        return self.done() % self.per_epoch > 0 and self.done() != self.recipe.steps

    @property
    def epochs_done(self) -> int:
        """Epochs of which no step is left."""
        return self.recipe.epochs if self.done() == self.recipe.steps else self.done() // self.per_epoch

    def __len__(self) -> int:
        """Return the number of chunks in a whole epoch."""
        return -(-self.per_epoch // self.recipe.steps_per_batch)

    def chunks(self) -> Iterator[range]:
        """Yield which steps of the present epoch each chunk that is left has."""
        epoch, position = divmod(self.done(), self.per_epoch)
        end = self.per_epoch
        if self.recipe.steps is not None:
            end = min(end, self.recipe.steps - epoch * self.per_epoch)
        for start in range(position, end, self.recipe.steps_per_batch):
            yield range(start, min(start + self.recipe.steps_per_batch, end))

    def state_dict(self) -> dict[str, int]:
        """Empty: the position follows from the step count.

        Lightning asks for it to resume inside an epoch.
        """
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to restore."""


class Steps(EpochSteps):
    """Yields chunks: lists of row numbers (int64 [batch rows]), one for each optimizer step of the
    chunk.

    A step's rows are those of the joint batch of all ranks, on every rank: they do not depend on
    how many there are, see ``share``.

    Args:
        rows: Of the training part.
        batch_size: Rows of a step.
        seed: Of the order.
        recipe: With the steps of a chunk, of an epoch and in all.
        done: Returns the number of optimizer steps done so far.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, recipe: Recipe, done: Callable[[], int]) -> None:
        super().__init__(rows, batch_size, recipe, done)
        self.seed = seed

    def __iter__(self) -> Iterator[list[Tensor]]:
        steps = self._steps(self.done() // self.per_epoch)
        for chunk in self.chunks():
            yield steps[chunk.start : chunk.stop]

    def upcoming(self) -> Iterator[Tensor]:
        """Yield the rows of every step that is left, in this epoch and those after it."""
        epoch, steps = -1, list[Tensor]()
        for step in range(self.done(), self.total):
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                steps = self._steps(epoch)
            yield steps[step % self.per_epoch]

    def _steps(self, epoch: int) -> list[Tensor]:
        return step_rows(epoch_order(self.rows, self.seed, epoch), self.batch_size)
