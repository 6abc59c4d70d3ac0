"""``Spool``: rows that are written once to a temporary file, and read by their number."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np

from reglab.core.errors import UserError
from reglab.data.reader import Array, Reader
from reglab.data.source import Integers

_SHARE = 0.9  # of the free disk


class Spool(Reader):
    """Rows of formats that are not read by number, such as compressed ones, in a file without a name.

    It lies in the folder for temporary files and is gone when the process ends, however that ends;
    worker processes read the same file.

    Args:
        blocks: Rows ``[rows, *shape]``, one block after the other; at least one.
        identity: As ``Reader.identity`` returns it.
        what: The rows, for messages.

    Raises:
        UserError: Where they do not fit on the disk.
    """

    def __init__(self, blocks: Iterable[Array], identity: str | None, what: str) -> None:
        self._identity, self._rows = identity, 0
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile() as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        left = int(shutil.disk_usage(folder).free * _SHARE)
        for block in blocks:
            left -= block.nbytes
            if left < 0:
                raise UserError(
                    f"{what} do not fit on the disk of {folder}, where rows are written to be read by number: set "
                    "TMPDIR to a folder on a larger disk"
                )
            _write(self._file, block)
            self._rows, self.shape, self.dtype = self._rows + len(block), block.shape[1:], block.dtype

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, of which a process that was not forked gets a descriptor of its own."""
        return {**vars(self), "_file": DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._file = state["_file"].detach()
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self._rows

    def identity(self) -> str | None:
        return self._identity

    def read(self, rows: Integers) -> Array:
        read = np.empty((len(rows), *self.shape), dtype=self.dtype)
        size = read.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        into = memoryview(read.reshape(-1).view(np.uint8).data)
        firsts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)  # of runs of neighbours
        for first, end in zip(firsts, [*firsts[1:], len(rows)][: len(firsts)], strict=True):
            self._fill(into[first * size : end * size], int(rows[first]) * size)
        return read

    def _fill(self, into: memoryview, offset: int) -> None:
        while len(into):
            count = os.preadv(self._file, [into], offset)
            if not count:
                raise UserError("a temporary file of rows has become shorter while it was read: train again")
            into, offset = into[count:], offset + count


def _write(file: int, block: Array) -> None:
    left = memoryview(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
    while len(left):
        left = left[os.write(file, left) :]
