"""File lock on a run's folder: one process at a time writes a run.

The lock of a process ends with the process.
"""

import logging
import multiprocessing
import os
import time
import weakref
from pathlib import Path

from reglab.core.errors import UserError

LOCK = "run.lock"
_RETRY_SECONDS = 0.02
_WAIT_SECONDS = 0.2  # ``is_running`` holds the lock for so long at most
# ``reglab sync`` may hold the run of a dead process for so long while its sweep resumes it.
_WORKER_WAIT_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Held(UserError):  # noqa: N818 - a state to wait for, not an error of the run
    """Another process writes the run."""


class RunLock:
    """Lock of the run in ``folder``, held until ``release`` or the end of the process.

    In a worker of a sweep it waits for a minute: ``reglab sync`` may be delivering what a
    dead one left.

    Raises:
        Held: Naming the process that has it.
        UserError: Where the lock file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._number: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._number = _open(folder / LOCK, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise UserError(f"cannot write to {folder} ({error}): give a folder of your own") from error
        _held.add(self)
        deadline = time.monotonic() + (_WORKER_WAIT_SECONDS if multiprocessing.parent_process() else _WAIT_SECONDS)
        while True:
            if _try_lock(self._number, folder):
                _write_owner(self._number)
                return
            if time.monotonic() > deadline:
                break
            time.sleep(_RETRY_SECONDS)
        self.release()
        raise Held(
            f"process {_owner(folder)} is running the run in {folder}: wait until it is done, or end it by Ctrl-C or "
            "kill -INT"
        )

    def release(self) -> None:
        """Let others have the run. A second call does nothing."""
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def __del__(self) -> None:
        self.release()


def is_running(folder: Path) -> bool:
    """Return whether a living process, perhaps this one, holds the run in ``folder``.

    Without a run: False.
    """
    for flags in (os.O_RDWR, os.O_RDONLY):  # network file systems lock only what may be written
        try:
            number = _open(folder / LOCK, flags)
        except PermissionError:
            continue
        except OSError:  # no lock file, or a read-only file system
            return False
        try:
            return not _try_lock(number, folder)
        finally:
            os.close(number)
    return False


_held: "weakref.WeakSet[RunLock]" = weakref.WeakSet()


def _forget() -> None:
    """In a forked child: drop the locks, which would otherwise outlive the parent."""
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _open(path: Path, flags: int) -> int:
    # a link is not followed: the folder may be from another user
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o644)


def _try_lock(number: int, folder: Path) -> bool:
    from filelock import lock_descriptor  # late: 60 ms, which a run that is only read does not need

    try:
        return lock_descriptor(number, blocking=False)
    except OSError as error:
        _log.warning("%s does not support file locks (%s): make sure that one process at a time runs it", folder, error)
        return True


def _write_owner(number: int) -> None:
    os.ftruncate(number, 0)
    os.write(number, str(os.getpid()).encode())


def _owner(folder: Path) -> str:
    try:
        return (folder / LOCK).read_text(encoding="utf-8") or "another"
    except OSError:  # Windows does not allow reading a locked file
        return "another"
