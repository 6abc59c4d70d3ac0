"""SHA-256 digest of the prepared data."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reglab.data.dataset import Part
from reglab.data.rows import Rows

_BLOCK = 256  # rows


def digest(parts: Mapping[str, Part], header: object) -> str:
    """Return the SHA-256 (hex) of ``header`` and all tensors with names, dtypes and shapes.

    The names and shapes keep apart what the bytes alone would not: a row moved from one part to the
    next, or 2 x 3 inputs read as 3 x 2.

    Args:
        parts: The parts by name.
        header: Hashed by its ``repr``: task, outputs and names.
    """
    sha = hashlib.sha256(repr(header).encode())
    for name, part in parts.items():
        for field in fields(part):
            values = getattr(part, field.name)
            sha.update(f"{name}.{field.name}:{values.dtype}:{tuple(values.shape)}".encode())
            for block in _blocks(values):
                # No copy: the inputs may be large.
                array: Any = block.numpy()  # numpy's types do not tell that it is a buffer
                sha.update(array.reshape(-1).view(np.uint8))
    return sha.hexdigest()


def _blocks(values: Tensor | Rows) -> Iterable[Tensor]:
    """Return the values in one block or more, on the CPU: streamed inputs give the digest that they
    would give in memory.
    """
    if isinstance(values, Tensor):
        return [values.cpu().contiguous()]
    return values.read(torch.split(torch.arange(len(values)), _BLOCK), torch.device("cpu"))
