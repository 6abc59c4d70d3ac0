"""``Rows``: inputs that are read batch by batch, where they do not fit into memory."""

from collections.abc import Iterable, Iterator
from typing import Protocol, Self

import torch
from torch import Tensor


class Rows(Protocol):
    """Inputs of a part that can be asked for by row number: the same rows give the same bits.

    Attributes:
        shape: ``[rows, *input_shape]``.
        dtype: float32, or int64 where the inputs are tokens.
    """

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __len__(self) -> int: ...

    def identity(self) -> str | None:
        """Return a text that is another one where an input may be; None where nobody can tell."""

    def is_floating_point(self) -> bool:
        """Return whether the inputs are real, not tokens."""

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Return the inputs of a few rows on the CPU."""

    def take(self, rows: Tensor | slice) -> Self:
        """Return some of the rows, which are not read by that."""

    def batch(self, rows: Tensor, device: torch.device) -> Tensor:
        """Return the inputs of ``rows``, int64 ``[rows]``, on ``device``."""

    def read(self, batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
        """Yield the inputs of each batch of row numbers, int64 ``[rows]``, read ahead.

        Raises:
            UserError: Naming what cannot be read.
        """
