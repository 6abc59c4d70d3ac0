"""Atomic, durable file writes: temporary file, fsync, rename."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Some file systems make names durable by themselves, or never.
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path``, durably, if the context ends without an error.

    Whenever the process dies, ``path`` is the old file or the new one, whole. What a death leaves
    beside it is named ``.<name>.<process>.partial``.

    Raises:
        OSError: Where the file cannot be written; nothing is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = partial(path)
    try:
        # A new file: what lies there may be a link of somebody else's, or what a death left.
        beside.unlink(missing_ok=True)
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def partial(path: Path) -> Path:
    """Return where this process keeps what is to become ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def write(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by ``content`` (text as UTF-8), as ``writing`` does."""
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable.

    A file that was moved there is found after a power loss.
    """
    if os.name == "nt":  # a folder cannot be opened there
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(number)
