"""Reader of windows of a series, which are views of it."""

import hashlib

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from reglab.data.moments import Scale
from reglab.data.reader import Array, Reader
from reglab.data.source import Floats, Integers


class WindowReader(Reader):
    """Windows ``[columns, length]`` of series that stand one after the other.

    Args:
        values: float64 ``[times, columns]``.
        starts: The first row of each window, int64 ``[windows]``.
        length: Times of a window.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, values: Floats, starts: Integers, length: int) -> None:
        self.values, self.starts, self.length = values, starts, length
        self.shape = (values.shape[1], length)

    def __len__(self) -> int:
        return len(self.starts)

    def identity(self) -> str:
        sha = hashlib.sha256(np.ascontiguousarray(self.values).data)
        sha.update(self.starts.tobytes())
        return f"{sha.hexdigest()} {self.shape}"

    def read(self, rows: Integers) -> Array:
        windows: Array = sliding_window_view(self.values, self.length, axis=0)
        return windows[self.starts[rows]]

    def scale(self, rows: Integers) -> Scale:
        """Return mean and deviation of each column over the times that some windows cover, each once."""
        change = np.zeros(len(self.values) + 1, dtype=np.int64)
        np.add.at(change, self.starts[rows], 1)
        np.add.at(change, self.starts[rows] + self.length, -1)
        covered = self.values[np.cumsum(change[:-1]) > 0]
        constant = covered.min(axis=0) == covered.max(axis=0)
        deviation = np.where(constant, 1.0, covered.std(axis=0))
        return Scale(np.repeat(covered.mean(axis=0), self.length), np.repeat(deviation, self.length))
