"""Readers of arrays: of a ``.npy`` file, whatever its size, and of an array in memory."""

from io import FileIO
from pathlib import Path

import numpy as np

from reglab.core.errors import UserError
from reglab.data.read_before import identity_of
from reglab.data.reader import Array, Reader
from reglab.data.source import Integers


class ArrayReader(Reader):
    """Rows of an array in memory, ``[rows, ...]``.

    Args:
        values: All rows.
    """

    def __init__(self, values: Array) -> None:
        self.values, self.shape, self.dtype = values, values.shape[1:], values.dtype

    def __len__(self) -> int:
        return len(self.values)

    def read(self, rows: Integers) -> Array:
        chosen: Array = self.values[rows]
        return chosen


class FileReader(Reader):
    """Rows of a ``.npy`` file.

    They are read by position rather than through a mapping: the pages of a mapping would count as
    memory of the process, and large files would seem to fill it.

    Args:
        path: The file.
        key: The option that names it, for messages.

    Raises:
        UserError: For a file that is no array of numbers, ``[rows, ...]``, in C order.
    """

    def __init__(self, path: Path, key: str) -> None:
        values = mapped(path, key)
        if values.dtype.kind not in "fiub" or values.ndim < 2 or not values.flags.c_contiguous:
            raise UserError(
                f"data.{key}={path} holds {values.dtype} {list(values.shape)}: it must be numbers, [rows, columns] or "
                "[rows, ...], in C order, as numpy.save(path, numpy.ascontiguousarray(array)) writes them"
            )
        self.path, self.offset = path, int(getattr(values, "offset", 0))
        self.rows, self.shape, self.dtype = len(values), values.shape[1:], values.dtype

    def __len__(self) -> int:
        return self.rows

    def identity(self) -> str:
        return identity_of([self.path])

    def read(self, rows: Integers) -> Array:
        read = np.empty((len(rows), *self.shape), dtype=self.dtype)
        size, whole = read.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64)), read.view()
        try:
            with FileIO(self.path) as file:  # each time: forked processes would share its position
                if len(rows) and (np.diff(rows) == 1).all():
                    self._fill(file, whole, int(rows[0]), size)
                else:
                    for number, row in enumerate(rows):
                        self._fill(file, whole[number : number + 1], int(row), size)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read any more ({error.strerror})") from error
        return read

    def _fill(self, file: FileIO, into: Array, row: int, size: int) -> None:
        file.seek(self.offset + row * size)
        buffer = memoryview(into.reshape(-1).view(np.uint8).data)
        while len(buffer):
            count = file.readinto(buffer)
            if not count:
                raise UserError(f"{self.path} has become shorter while it was read: write it anew, then train again")
            buffer = buffer[count:]


def mapped(path: Path, key: str) -> Array:
    """Return the array of a ``.npy`` file, of which only what is used is read.

    Args:
        path: The file.
        key: The option that names it, for messages.

    Raises:
        UserError: For a file that is missing or no array.
    """
    try:
        values: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"data.{key}={path} does not exist: give a file that numpy.save wrote") from error
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"data.{key}={path} is no array that numpy.save wrote ({error})") from error
    if not isinstance(values, np.ndarray):
        raise UserError(f"data.{key}={path} holds several arrays: save the one that is meant by numpy.save")
    return values
