"""What was computed from files before in this process, while they stay the same."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_results: dict[str, object] = {}


def read_before(key: str | None, compute: Callable[[], T]) -> T:
    """Return ``compute()``, or what it was for the same key.

    Args:
        key: Says which rows of which files, and what of them; None: compute it each time.
        compute: Reads them.
    """
    if key is None:
        return compute()
    if key not in _results:
        _results[key] = compute()
    return _results[key]  # type: ignore[return-value]  # of the same key


def identity_of(files: Iterable[Path]) -> str:
    """Return a hash of paths, sizes and times of files: another one where one was written anew.

    Args:
        files: In their order.
    """
    sha = hashlib.sha256()
    for file in files:
        known = file.stat()
        sha.update(f"{file.absolute()}\0{known.st_size}\0{known.st_mtime_ns}\n".encode())
    return sha.hexdigest()
