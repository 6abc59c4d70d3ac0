"""Inputs of a part that are read batch by batch, ahead of what trains."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reglab.data.moments import Scale
from reglab.data.read_ahead import ReadAhead
from reglab.data.reader import Array
from reglab.data.source import Integers


@dataclass(frozen=True)
class Preparation:
    """Makes inputs of raw rows, bit for bit the same on every device.

    Args:
        table: What each value of a byte becomes, float32 ``[256]``; None where rows are no bytes.
        scale: Standardizes other numbers, by all values or by column of the flat row; None: as
            they are.
        tokens: The rows are token ids, int64, and stay so.
        pad: The value of padding, which stays as it is; None: there is none.
    """

    table: Tensor | None = None
    scale: Scale | None = None
    tokens: bool = False
    pad: float | None = None

    def __call__(self, raw: Array, device: torch.device) -> Tensor:
        """Return inputs on ``device``, float32 or int64 tokens, of raw rows.

        Args:
            raw: ``[rows, *shape]``.
            device: Where to.
        """
        if self.table is None:
            return torch.from_numpy(self._numbers(raw)).to(device)
        pixels = torch.from_numpy(raw)
        pixels = pixels.pin_memory() if device.type == "cuda" else pixels
        index = pixels.to(device, non_blocking=True).reshape(-1).int()
        return self.table.to(device).index_select(0, index).reshape(raw.shape)

    def identity(self) -> str:
        """Return a text that is another one for another preparation."""
        made = [self.table.numpy()] if self.table is not None else list(self.scale or [])
        return f"{self.tokens} {self.pad} {[np.asarray(values).tobytes().hex() for values in made]}"

    def _numbers(self, raw: Array) -> Array:
        if self.tokens:
            return raw.astype(np.int64, copy=False)
        if self.scale is None:
            return raw.astype(np.float32, copy=False)
        flat = raw.reshape(len(raw), -1).astype(np.float64)
        scaled: Array = ((flat - self.scale.center) / self.scale.scale).astype(np.float32)
        if self.pad is not None:
            scaled[flat == self.pad] = self.pad
        return scaled.reshape(raw.shape)


class Streamed:
    """Inputs of a part, read where they are, by worker processes that read ahead.

    Args:
        source: Reads raw rows.
        index: Which of them the part has, int64 ``[rows]``.
        prepare: Makes inputs of them.
        shape: Of one example.
    """

    def __init__(self, source: ReadAhead, index: Integers, prepare: Preparation, shape: tuple[int, ...]) -> None:
        self.source, self.index, self.prepare = source, index, prepare
        self._shape = shape

    @property
    def shape(self) -> torch.Size:
        """``[rows, *input_shape]``."""
        return torch.Size((len(self.index), *self._shape))

    @property
    def dtype(self) -> torch.dtype:
        """float32, or int64 where the inputs are tokens."""
        return torch.int64 if self.prepare.tokens else torch.float32

    def __len__(self) -> int:
        return len(self.index)

    def identity(self) -> str | None:
        """Return a text that is another one where an input may be; None where nobody can tell."""
        identity = self.source.reader.identity()
        return identity and f"{identity} {hashlib.sha256(self.index.tobytes()).hexdigest()} {self.prepare.identity()}"

    def is_floating_point(self) -> bool:
        """Return whether the inputs are real, not tokens."""
        return self.dtype.is_floating_point

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Return the inputs of a few rows on the CPU."""
        return self.batch(torch.arange(len(self))[rows], torch.device("cpu"))

    def batch(self, rows: Tensor, device: torch.device) -> Tensor:
        """Return the inputs of ``rows``, int64 ``[rows]``, on ``device``."""
        (inputs,) = self.read([rows], device)
        return inputs

    def read(self, batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
        """Yield the inputs of each batch, which workers read ahead.

        Args:
            batches: Row numbers of each, int64 ``[rows]``.
            device: Where the inputs go.

        Raises:
            UserError: Naming what cannot be read.
        """
        sizes: deque[int] = deque()
        pieces = self.source.read(self._pieces(batches, sizes))
        for piece in pieces:
            size, filled = sizes.popleft(), len(piece)
            if filled == size:
                yield self.prepare(piece, device)
                continue
            inputs = torch.empty((size, *self._shape), dtype=self.dtype, device=device)
            inputs[:filled] = self.prepare(piece, device)
            while filled < size:
                piece = next(pieces)
                inputs[filled : filled + len(piece)] = self.prepare(piece, device)
                filled += len(piece)
            yield inputs

    def _pieces(self, batches: Iterable[Tensor], sizes: deque[int]) -> Iterator[Integers]:
        """Yield the raw row numbers of pieces of the batches, after telling the rows of a batch."""
        for rows in batches:
            chosen = self.index[rows.cpu().numpy()]
            count = max(1, -(-len(chosen) // self.source.reader.block_rows))
            sizes.append(len(chosen))
            yield from np.array_split(chosen, count)

    def take(self, rows: Tensor | slice) -> "Streamed":
        """Return some of the rows, which are not read by that."""
        chosen = torch.arange(len(self))[rows].numpy()
        return Streamed(self.source, self.index[chosen], self.prepare, self._shape)
