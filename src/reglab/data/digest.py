"""SHA-256 digest of the prepared data."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from reglab.data.dataset import Part


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
            tensor = getattr(part, field.name).cpu().contiguous()
            sha.update(f"{name}.{field.name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            # No copy: the inputs may be large.
            sha.update(tensor.numpy().reshape(-1).view(np.uint8))
    return sha.hexdigest()
