"""File lock: one process at a time runs a sweep."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reglab.core.errors import UserError

_LOCK, _HOLDER = "sweep.lock", "sweep.pid"


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Lock the sweep in ``folder`` inside the context; a dead process leaves no lock.

    Args:
        folder: Of the sweep.

    Raises:
        UserError: Another process runs the sweep.
    """
    from filelock import FileLock, Timeout  # late: it imports asyncio

    lock, pid_file = FileLock(folder / _LOCK, timeout=0), folder / _HOLDER
    try:
        lock.acquire()
    except Timeout:
        process = pid_file.read_text(encoding="utf-8") if pid_file.exists() else "unknown"
        raise UserError(
            f"process {process} is running the sweep in {folder}. Wait for it, or stop it by Ctrl-C or kill -INT "
            f"{process} and give the same command again; sweep.again=true starts a separate sweep"
        ) from None
    try:
        pid_file.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        pid_file.unlink(missing_ok=True)
        lock.release()
