"""File locks: one process at a time starts a sweep, and runs it."""

import getpass
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reglab.core.errors import UserError
from reglab.tracking.settings import sqlite_path

_LOCK, _HOLDER = "sweep.lock", "sweep.pid"


@contextmanager
def start_lock(uri: str) -> Iterator[None]:
    """Let one process at a time look for a sweep in a store and open it there.

    Given twice within seconds, a command would else find no earlier sweep twice: it would train
    twice, and each would see the test set. The lock lies beside a SQLite store, and for another
    store in this machine's folder for temporary files: two machines that use one server are not
    kept apart.

    Args:
        uri: Of the store.
    """
    from filelock import FileLock  # late: it imports asyncio

    with FileLock(_start_path(uri)):
        yield


def _start_path(uri: str) -> Path:
    store = sqlite_path(uri)
    if store is not None:
        store.parent.mkdir(parents=True, exist_ok=True)
        return store.with_name(f".{store.name}.lock")
    folder = Path(tempfile.gettempdir(), f"reglab-{getpass.getuser()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock"


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
