"""Loader of a pack: the rows that each member takes in each step."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from reglab.training.loader import epoch_order, step_rows


class PackSteps:
    """Yields chunks of steps, as ``Steps`` does: lists of row numbers of the shared rows, one entry
    for each optimizer step.

    An entry is int64 [batch rows] where all members take the same rows, else [members, batch rows]:
    every member has the order of its own seed.

    Args:
        members: Returns (seed, part of the pool) of each member of the stack, as it is when an
            epoch begins.
        done: Returns the steps done so far.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        steps_per_batch: int,
        members: Callable[[], Sequence[tuple[int, int]]],
        done: Callable[[], int],
    ) -> None:
        self.rows, self.batch_size, self.chunk = rows, batch_size, steps_per_batch
        self.members, self.done = members, done
        self.per_epoch = len(step_rows(torch.arange(rows), batch_size))

    def __len__(self) -> int:
        """Return the number of chunks in an epoch."""
        return -(-self.per_epoch // self.chunk)

    def __iter__(self) -> Iterator[list[Tensor]]:
        epoch, position = divmod(self.done(), self.per_epoch)
        steps = step_rows(torch.arange(self.rows), self.batch_size)
        order = self._order(epoch)
        for start in range(position, len(steps), self.chunk):
            yield [
                order[..., positions[0] : positions[-1] + 1].contiguous()
                for positions in steps[start : start + self.chunk]
            ]

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

    def state_dict(self) -> dict[str, int]:
        """Empty: the position follows from the step count.

        Lightning asks for it to resume inside an epoch.
        """
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to restore."""
