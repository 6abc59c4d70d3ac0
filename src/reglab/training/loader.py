"""Batches whose order is a pure function of (seed, epoch), several optimizer steps to one Lightning batch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from reglab import draws


def epoch_order(rows: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the rows in an epoch, int64 [rows]: the same on every rank, device and resume."""
    return draws.permutation(draws.key(seed, draws.name_number("order"), epoch), rows)


def step_rows(order: Tensor, batch_rows: int, ranks: int = 1) -> list[Tensor]:
    """Return the rows of each optimizer step of an epoch, the last with what remains.

    A single remaining row joins the step before it: BatchNorm cannot train on one row. With several ``ranks``, rows
    that cannot be cut in equal parts are left out of this epoch.
    """
    parts = list(torch.split(order[: len(order) - len(order) % ranks], batch_rows))
    if len(parts) > 1 and len(parts[-1]) == ranks:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


class Steps:
    """Yields chunks: lists of row numbers (int64 [batch rows]), one for each optimizer step of the chunk.

    Where it begins follows from the number of steps that were done, so a resumed run goes on with the rows that come
    next, also in the middle of an epoch. With several ranks, each step's rows are those of the joint batch, a multiple
    of the ranks, of which every rank takes its equal part.

    done: returns the number of optimizer steps done so far.
    """

    def __init__(
        self, rows: int, batch_size: int, seed: int, steps_per_batch: int, done: Callable[[], int], ranks: int = 1
    ) -> None:
        self.rows = rows
        self.joint = batch_size * ranks
        self.ranks = ranks
        self.seed = seed
        self.chunk = steps_per_batch
        self.done = done
        self.per_epoch = len(step_rows(torch.arange(rows), self.joint, ranks))

    def __len__(self) -> int:
        """Return the number of chunks in an epoch."""
        return -(-self.per_epoch // self.chunk)

    def __iter__(self) -> Iterator[list[Tensor]]:
        epoch, position = divmod(self.done(), self.per_epoch)
        steps = step_rows(epoch_order(self.rows, self.seed, epoch), self.joint, self.ranks)
        for start in range(position, len(steps), self.chunk):
            yield steps[start : start + self.chunk]

    def state_dict(self) -> dict[str, int]:
        """Lightning asks whether a loader can resume inside an epoch; this one follows the step count instead."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to restore."""
