"""Loader of a pack: the rows that each member takes in each step."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from reglab.training.loader import EpochSteps, epoch_order, step_rows
from reglab.training.recipe import Recipe


class PackSteps(EpochSteps):
    """Yields chunks of steps, as ``Steps`` does: lists of row numbers of the shared rows, one entry
    for each optimizer step.

    An entry is int64 [batch rows] where all members take the same rows, else [members, batch rows]:
    every member has the order of its own seed.

    Args:
        rows: Of the training part.
        recipe: With the rows of a step, and the steps of a chunk, of an epoch and in all.
        members: Returns (seed, part of the pool) of each member of the stack, as it is when an
            epoch begins.
        done: Returns the steps done so far.
    """

    def __init__(
        self, rows: int, recipe: Recipe, members: Callable[[], Sequence[tuple[int, int]]], done: Callable[[], int]
    ) -> None:
        super().__init__(rows, recipe.batch_size, recipe, done)
        self.members = members

    def __iter__(self) -> Iterator[list[Tensor]]:
        entries = self._entries(self.done() // self.per_epoch)
        for chunk in self.chunks():
            yield entries[chunk.start : chunk.stop]

    def upcoming(self) -> Iterator[Tensor]:
        """Yield the entry of every step that is left, in this epoch and those after it."""
        epoch, entries = -1, list[Tensor]()
        for step in range(self.done(), self.total):
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                entries = self._entries(epoch)
            yield entries[step % self.per_epoch]

    def _entries(self, epoch: int) -> list[Tensor]:
        order = self._order(epoch)
        steps = step_rows(torch.arange(self.rows), self.batch_size)
        return [order[..., step[0] : step[-1] + 1].contiguous() for step in steps[: self.per_epoch]]

    def shape(self, rows: int) -> tuple[int, ...]:
        """Return the shape of an entry of so many rows."""
        members = self.members()
        return (rows,) if len(set(members)) == 1 else (len(members), rows)

    def _order(self, epoch: int) -> Tensor:
        members = self.members()
        orders = {seed: epoch_order(self.rows, seed, epoch) for seed, _ in members}
        if len(set(members)) == 1:
            seed, part = members[0]
            return orders[seed] + part * self.rows
        return torch.stack([orders[seed] + part * self.rows for seed, part in members])
