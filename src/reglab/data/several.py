"""Several inputs of an example: one row of values, behind each other, that a network gets apart."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reglab.core.errors import UserError
from reglab.data.moments import Moments, Scale, total_of
from reglab.data.reader import Array, Reader
from reglab.data.source import Integers


class Input(NamedTuple):
    """One of several inputs.

    Args:
        name: Of a key, or a file.
        shape: Of one example.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many values an example has."""
        return int(np.prod(self.shape, dtype=np.int64))


class JoinedReader(Reader):
    """Rows of several readers, as float64 or float32 ``[rows, values]``.

    Args:
        readers: Of the same rows.
        names: Of each.

    Raises:
        UserError: Where they have different numbers of rows.
    """

    def __init__(self, readers: Sequence[Reader], names: Sequence[str]) -> None:
        self.readers = list(readers)
        self.inputs = tuple(Input(name, reader.shape) for name, reader in zip(names, readers, strict=True))
        if len(lengths := {len(reader) for reader in readers}) > 1:
            raise UserError(
                f"data.inputs names files of {' and '.join(map(str, lengths))} rows: give files with the same rows"
            )
        self.shape = (sum(each.size for each in self.inputs),)
        whole = all(reader.dtype.itemsize <= 2 or reader.dtype == np.float32 for reader in readers)
        self.dtype = np.dtype(np.float32 if whole else np.float64)

    def __len__(self) -> int:
        return len(self.readers[0])

    def identity(self) -> str | None:
        each = [reader.identity() for reader in self.readers]
        return None if None in each else f"{each}"

    def read(self, rows: Integers) -> Array:
        read = [reader.read(rows).reshape(len(rows), -1).astype(self.dtype, copy=False) for reader in self.readers]
        return np.concatenate(read, axis=1)


def names_of(inputs: Sequence[Input]) -> tuple[str, ...]:
    """Return the names of all values: that of the input, and a number."""
    return tuple(f"{each.name}_{number}" for each in inputs for number in range(each.size))


def scale_of_each(blocks: Sequence[Moments], inputs: Sequence[Input]) -> Scale:
    """Return what the values of a row are standardized by: columns of a flat input one by one, inputs of
    more dimensions by one mean and one deviation.

    Args:
        blocks: The moments by column of several blocks of rows.
        inputs: Which columns belong together.
    """
    columns, first, scales = total_of(blocks), 0, list[Scale]()
    for each in inputs:
        part = slice(first, first + each.size)
        counts, *others = (np.broadcast_to(values, columns.mean.shape)[part] for values in columns)
        own = Moments(counts, *others)
        if len(each.shape) > 1:
            own = total_of(
                Moments(count, *values)
                for count, *values in zip(counts, *others, strict=True)  # of each column
            )
        scale = own.scale()
        scales.append(Scale(*(np.broadcast_to(values, (each.size,)) for values in scale)))
        first += each.size
    return Scale(*(np.concatenate(values) for values in zip(*scales, strict=True)))
