"""Detect a non-finite loss without synchronizing host and device."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reglab.core.errors import Diverged


class _Chunk(NamedTuple):
    """Terms ``[terms, steps]`` from step ``first`` on, their sum (copied to the host), and its
    event.
    """

    terms: Tensor
    first: int
    rates: Sequence[float]
    total: Tensor
    arrived: torch.cuda.Event | None


class Finite:
    """Checks the terms of the loss for NaN and infinity.

    A GPU runs many steps behind the host; looking at its numbers at once would synchronize host and
    device.

    Raises:
        Diverged: Where a term of the loss is not finite: at once, or ``late``, when the next chunk
            is looked at.
    """

    def __init__(self, steps_per_epoch: int, late: bool) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._late = late
        self._pending: _Chunk | None = None

    def check(self, terms: Tensor, first: int, rates: Sequence[float]) -> None:
        """Check the terms ``[terms, steps]`` of a chunk from step ``first`` on, at learning rates
        ``rates``.
        """
        before, self._pending = self._pending, _sent(terms, first, rates)
        if before is not None:
            self._raise_if_not_finite(before)
        if not self._late:
            self.flush()

    def flush(self) -> None:
        """Check the pending chunk."""
        if self._pending is not None:
            chunk, self._pending = self._pending, None
            self._raise_if_not_finite(chunk)

    def _raise_if_not_finite(self, chunk: _Chunk) -> None:
        if chunk.arrived is not None:
            chunk.arrived.synchronize()
        if math.isfinite(float(chunk.total)):
            return
        finite = torch.isfinite(chunk.terms.sum(0))
        if not bool(finite.all()):  # finite numbers may have an infinite sum
            index = int(finite.logical_not().to(torch.uint8).argmax())
            step = chunk.first + index
            raise Diverged(step, step // self._steps_per_epoch + 1, chunk.rates[index])


def _sent(terms: Tensor, first: int, rates: Sequence[float]) -> _Chunk:
    total = terms.sum()
    if not terms.is_cuda:
        return _Chunk(terms, first, rates, total, None)
    host = torch.empty((), dtype=total.dtype, pin_memory=True).copy_(total, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it so
    arrived.record()
    return _Chunk(terms, first, rates, host, arrived)
