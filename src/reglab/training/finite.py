"""Detect a non-finite loss without synchronizing host and device."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reglab.core.errors import Diverged


class _Chunk(NamedTuple):
    """Terms ``[terms, steps, members]`` from step ``first`` on, their sum (copied to the host), and
    its event.
    """

    terms: Tensor
    first: int
    rates: Sequence[Sequence[float]] | Tensor
    total: Tensor
    arrived: torch.cuda.Event | None


class Finite:
    """Checks the terms of the loss of each member for NaN and infinity.

    A GPU runs many steps behind the host; looking at its numbers at once would synchronize host and
    device.

    Args:
        steps_per_epoch: To name the epoch of a step.
        late: Look at a chunk's terms only when the next one is checked.
    """

    def __init__(self, steps_per_epoch: int, late: bool) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._late = late
        self._pending: _Chunk | None = None

    def check(self, terms: Tensor, first: int, rates: Sequence[Sequence[float]] | Tensor) -> dict[int, Diverged]:
        """Check the terms of a chunk of steps.

        Args:
            terms: ``[terms, steps, members]``.
            first: Number of the chunk's first step.
            rates: Learning rates, ``[steps, members]``.

        Returns:
            The members whose loss is not finite, each with the error that names its first such
            step: of this chunk, or ``late`` of the one before.
        """
        before, self._pending = self._pending, _sent(terms, first, rates)
        failed = {} if before is None else self._failed(before)
        return failed if self._late else failed | self.flush()

    def flush(self) -> dict[int, Diverged]:
        """Check the pending chunk, and return what ``check`` does."""
        chunk, self._pending = self._pending, None
        return {} if chunk is None else self._failed(chunk)

    def _failed(self, chunk: _Chunk) -> dict[int, Diverged]:
        if chunk.arrived is not None:
            chunk.arrived.synchronize()
        if math.isfinite(float(chunk.total)):
            return {}
        wrong = torch.isfinite(chunk.terms.sum(0)).logical_not().cpu()  # finite numbers may have an infinite sum
        failed = {}
        for member in wrong.any(0).nonzero().flatten().tolist():
            index = int(wrong[:, member].to(torch.uint8).argmax())
            step = chunk.first + index
            failed[member] = Diverged(step, step // self._steps_per_epoch + 1, float(chunk.rates[index][member]))
        return failed


def _sent(terms: Tensor, first: int, rates: Sequence[Sequence[float]] | Tensor) -> _Chunk:
    total = terms.sum()
    if not terms.is_cuda:
        return _Chunk(terms, first, rates, total, None)
    host = torch.empty((), dtype=total.dtype, pin_memory=True).copy_(total, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it so
    arrived.record()
    return _Chunk(terms, first, rates, host, arrived)
