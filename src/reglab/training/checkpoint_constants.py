"""Checkpoint tensors that never change, such as initial weights: written once, to a shared file."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reglab.core.errors import UserError

PATTERN = "unchanged-*.pt"
_NAME, _KEY = "unchanged-{}.pt", "beside"


class Unchanged(dict[str, Tensor]):
    """Tensors by name that never change: a checkpoint refers to them by their digest."""


def put(content: Any, folder: Path, write: Callable[[Mapping[str, Tensor], Path], None]) -> Any:
    """Return ``content`` with each ``Unchanged`` replaced by the name of its file in ``folder``;
    ``write`` makes it.
    """
    if isinstance(content, Unchanged):
        path = folder / _NAME.format(_digest(content))
        write(dict(content), path)
        return {_KEY: path.name}
    if type(content) is dict:
        return {key: put(value, folder, write) for key, value in content.items()}
    return content


def take(content: Any, folder: Path, read: Callable[[Path], dict[str, Tensor]]) -> Any:
    """Return ``content`` with each name replaced by what ``read`` finds in its file, where there is
    one.
    """
    if type(content) is not dict:
        return content
    name = content.get(_KEY)
    if len(content) == 1 and isinstance(name, str) and Path(name).name == name:
        return Unchanged(read(folder / name)) if (folder / name).is_file() else content
    return {key: take(value, folder, read) for key, value in content.items()}


def missing(content: Any) -> str | None:
    """Return the name of a file that was not found.

    Args:
        content: As ``take`` returns it.

    Returns:
        The name; None where nothing is missing.
    """
    if type(content) is not dict:
        return None
    if len(content) == 1 and isinstance(name := content.get(_KEY), str):
        return name
    return next((name for each in content.values() if (name := missing(each))), None)


def tensors(value: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the tensors of an ``Unchanged`` entry.

    Raises:
        UserError: Where its file is missing.
    """
    if isinstance(name := value.get(_KEY), str):
        raise UserError(f"{name} is missing beside the checkpoint: put it back, or train the run anew")
    return value


def _digest(content: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in content.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
