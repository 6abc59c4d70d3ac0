"""File locks: one process at a time starts a sweep, and runs it."""

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reglab.core.errors import UserError
from reglab.tracking.settings import sqlite_path

_LOCK, _HOLDER = "sweep.lock", "sweep.pid"
_PATIENCE, _LONGEST = 2.0, 600.0  # seconds of waiting without a word, and in all


@contextmanager
def start_lock(uri: str) -> Iterator[None]:
    """Let one process at a time look for a sweep in a store and open it there.

    Given twice within seconds, a command would else find no earlier sweep twice: it would train
    twice, and each would see the test set. The lock lies beside a SQLite store, and for another
    store in this machine's folder for temporary files: two machines that use one server are not
    kept apart.

    Args:
        uri: Of the store.

    Raises:
        UserError: Where another process holds it for minutes.
    """
    from filelock import FileLock, Timeout  # late: it imports asyncio

    lock = FileLock(_start_path(uri))
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        print(
            f"waiting {_LONGEST:.0f} s at most for a process that opens a sweep in the same store; Ctrl-C ends it",
            file=sys.stderr,
            flush=True,
        )
        try:
            lock.acquire(timeout=_LONGEST)
        except Timeout:
            raise UserError(
                f"another process has been opening a sweep in this store for {_LONGEST:.0f} s (it holds "
                f"{lock.lock_file}): end it, then give the same command again"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _start_path(uri: str) -> Path:
    store = sqlite_path(uri)
    if store is not None:
        store.parent.mkdir(parents=True, exist_ok=True)
        return store.with_name(f".{store.name}.lock")
    folder = _own_folder(Path(tempfile.gettempdir()))
    return folder / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock"


def _own_folder(parent: Path) -> Path:
    """Return a folder in ``parent`` that only this user can write: in a shared one, somebody else's
    link would have a file of this user emptied.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0  # a container's user may have no name
    folder = parent / f"reglab-{user}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and (found.st_uid != user or found.st_mode & 0o022)):
        raise UserError(
            f"{folder} is not a folder that you alone can write: remove it, or set TMPDIR to another folder"
        )
    return folder


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
