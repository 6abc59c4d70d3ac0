"""SHA-256 digest of the prepared data."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reglab.data.dataset import Part
from reglab.data.read_before import read_before
from reglab.data.rows import Rows

_VALUES = 2**20  # of a block


def digest(parts: Mapping[str, Part], header: object) -> str:
    """Return the SHA-256 (hex) of ``header`` and all tensors with names, dtypes and shapes.

    The names and shapes keep apart what the bytes alone would not: a row moved from one part to the
    next, or 2 x 3 inputs read as 3 x 2.

    Args:
        parts: The parts by name.
        header: Hashed by its ``repr``: task, outputs and names.
    """
    known = _hashed(parts, header, lambda rows: None if (text := rows.identity()) is None else [text.encode()])
    digest = read_before(known, lambda: _hashed(parts, header, _bytes))
    assert digest is not None
    return digest


def _hashed(parts: Mapping[str, Part], header: object, of_rows: Callable[[Rows], Iterable[bytes] | None]) -> str | None:
    """Return the hash, with what ``of_rows`` makes of streamed inputs; None where that is None."""
    sha = hashlib.sha256(repr(header).encode())
    for name, part in parts.items():
        for field in fields(part):
            values = getattr(part, field.name)
            sha.update(f"{name}.{field.name}:{values.dtype}:{tuple(values.shape)}".encode())
            blocks = [_array(values)] if isinstance(values, Tensor) else of_rows(values)
            if blocks is None:
                return None
            for block in blocks:
                sha.update(block)
    return sha.hexdigest()


def _bytes(rows: Rows) -> Iterator[bytes]:
    """Yield what streamed inputs would be in memory, block by block."""
    size = max(1, _VALUES // max(1, rows.shape[1:].numel()))
    return map(_array, rows.read(torch.split(torch.arange(len(rows)), size), torch.device("cpu")))


def _array(values: Tensor) -> Any:
    """Return the bytes of a tensor without a copy: inputs may be large."""
    array: Any = values.cpu().contiguous().numpy()
    return array.reshape(-1).view(np.uint8)
