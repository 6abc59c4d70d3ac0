"""Inputs of rows on disk: standardized by the training rows, read into memory or streamed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.data.encode import Fitted, byte_table
from reglab.data.moments import Moments, Scale, scale_of
from reglab.data.options import Options
from reglab.data.read_ahead import ReadAhead, Result
from reglab.data.read_before import read_before
from reglab.data.reader import Reader
from reglab.data.several import scale_of_each
from reglab.data.source import Integers, Source
from reglab.data.split import Split
from reglab.data.streamed import Preparation, Streamed


@dataclass(frozen=True)
class OnDisk:
    """Inputs of all rows, not read yet.

    Args:
        names: Of the inputs.
        fitted: By which they are standardized, by input.
        tokens: How many token ids there are; None where inputs are real.
    """

    source: ReadAhead
    prepare: Preparation
    stream: bool
    names: tuple[str, ...]
    fitted: Fitted
    tokens: int | None

    def rows(self, index: Integers) -> Tensor | Streamed:
        """Return the inputs of some rows, read where they are not to be streamed.

        Args:
            index: Their numbers, int64 ``[rows]``.
        """
        streamed = Streamed(self.source, index, self.prepare, self.source.reader.shape)
        if self.stream:
            return streamed
        inputs, first = torch.empty(streamed.shape, dtype=streamed.dtype), 0
        for block in streamed.read(torch.split(torch.arange(len(index)), self.source.reader.block_rows), inputs.device):
            inputs[first : first + len(block)] = block
            first += len(block)
        return inputs


def on_disk(source: Source, reader: Reader, split: Split, options: Options) -> OnDisk:
    """Return the inputs of ``reader``, standardized as ``encode`` does by the training rows.

    Whether rows are streamed or in memory does not change a bit of them.

    Args:
        source: Whose rows ``reader`` reads.
        reader: Of the raw rows.
        split: With the training rows.
        options: Of the data.

    Raises:
        UserError: For noise columns, which need all inputs in memory.
    """
    if options.noise_columns:
        raise UserError(
            f"data.noise_columns={options.noise_columns} needs all inputs in memory at once, and these are read from "
            "disk: set it to 0, or use data.label_noise, which works here"
        )
    columns = int(np.prod(reader.shape, dtype=np.int64))
    ahead = ReadAhead(reader, source.workers, source.pad)
    train = np.unique(split.train)
    identity = reader.identity()
    how = f"{source.homogeneous} {source.pad} {source.several}"
    key = identity and f"{identity} {how} {hashlib.sha256(train.tobytes()).hexdigest()}"
    prepare, scale, center = Preparation(), np.ones(1), np.zeros(1)
    if source.tokens:
        prepare = Preparation(tokens=True)
    elif reader.dtype == np.uint8 and source.homogeneous:
        counts = None
        if options.standardize:
            counts = read_before(key, lambda: np.sum(list(ahead.read(_blocks(train, reader), "counts")), axis=0))
        table, *moments = byte_table(counts, source.pad)
        prepare, (center, scale) = Preparation(table=torch.from_numpy(table)), map(np.array, moments)
    elif options.standardize:
        result: Result = "moments" if source.homogeneous else "column moments"
        found = reader.scale(train) or read_before(key, lambda: _scale(ahead, train, result, source))
        prepare, center, scale = Preparation(scale=found, pad=source.pad), found.center, found.scale
    tokens = _token_ids(ahead) if source.tokens else None
    fitted = Fitted(np.broadcast_to(scale, (columns,)), np.broadcast_to(center, (columns,)))
    return OnDisk(ahead, prepare, source.stream, source.numeric_names, fitted, tokens)


def _scale(ahead: ReadAhead, train: Integers, result: Result, source: Source) -> Scale:
    """Return what inputs are standardized by, by the moments of the training rows."""
    blocks: Iterator[Moments] = ahead.read(_blocks(train, ahead.reader), result)
    return scale_of_each(list(blocks), source.several) if source.several else scale_of(blocks)


def _token_ids(ahead: ReadAhead) -> int:
    """Return how many token ids there are: one more than the largest of all rows."""
    blocks = list(ahead.read(_blocks(np.arange(len(ahead.reader)), ahead.reader), "moments"))
    if (least := min(found.least for found in blocks)) < 0:
        raise UserError(f"token ids must be >= 0, got {least:.0f}; if the inputs are quantities, make them float32")
    return int(max(found.most for found in blocks)) + 1


def _blocks(rows: Integers, reader: Reader) -> Iterator[Integers]:
    size = reader.block_rows
    return (rows[first : first + size] for first in range(0, len(rows), size))
