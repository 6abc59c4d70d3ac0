"""``Reader``: raw rows of a data set, read by their number."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reglab.data.source import Integers

if TYPE_CHECKING:
    from reglab.data.moments import Scale

Array = NDArray[Any]
_BLOCK, _VALUES = 256, 2**22  # rows, and values in them


class Reader(ABC):
    """Reads rows by their number: the same numbers give the same bits, in any process.

    Worker processes get a copy of it.

    Attributes:
        shape: Of one row.
        dtype: Of its values: uint8, a floating-point number, or int64 where they are tokens.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def read(self, rows: Integers) -> Array:
        """Return rows, ``[rows, *shape]``.

        Args:
            rows: Their numbers, int64 ``[rows]``.

        Raises:
            UserError: Naming what cannot be read.
        """

    def identity(self) -> str | None:
        """Return a text that is another one where a row may be; None where nobody can tell."""
        return None

    def scale(self, rows: Integers) -> "Scale | None":
        """Return what the values of a row are standardized by, ``[values]``; None: by the moments of
        the training rows.

        Args:
            rows: The numbers of the training rows, int64 ``[rows]``.
        """
        return None

    def items(self, rows: Integers) -> tuple[Array, Array]:
        """Return rows, ``[rows, *shape]``, and their targets, where these are read with them."""
        raise NotImplementedError

    @property
    def block_rows(self) -> int:
        """How many rows are read at a time: 256, fewer of large ones. It is the same everywhere."""
        values = int(np.prod(self.shape, dtype=np.int64))
        return max(1, min(_BLOCK, _VALUES // max(values, 1)))

    @property
    def row_bytes(self) -> int:
        """The memory that one row takes as float32, or as int64 where it is tokens."""
        values = int(np.prod(self.shape, dtype=np.int64))
        return values * (8 if self.dtype == np.int64 else 4)
