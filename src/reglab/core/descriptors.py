"""Budget of file descriptors: each open run of a pack keeps a journal and a lock open."""

import errno
import os
import sys
from contextlib import suppress

PER_RUN = 2
_SPARE = 80  # for libraries, the store, threads that write many files at once
_ENOUGH = 16_384  # more is of no use, and slows down programs that close all they could have inherited


def raise_limit() -> None:
    """Raise this process's soft limit of open files towards the hard limit; its children inherit it."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # some systems have a lower limit of their own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int | None:
    """Return how many files this process may have open at once; None where that is not known."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def most_runs() -> int | None:
    """Return how many runs a process of its own may keep open; None where that is not known.

    It is at least 1, so that a process with a tiny limit fails with the system's own error.
    """
    files = limit()
    return None if files is None else max(1, (files - _SPARE) // PER_RUN)


def check_room(runs: int) -> None:
    """Raise OSError where the files of ``runs`` more open runs do not fit, before any is opened."""
    files = limit()
    if runs < 2 or files is None:
        return
    try:
        in_use = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no Path for each
    except OSError:  # not Linux
        return
    if in_use + PER_RUN * runs > files:
        raise OSError(
            errno.EMFILE, f"{runs} runs need {PER_RUN * runs} open files, and {files - in_use} are left: ulimit -n"
        )


def is_shortage(error: BaseException) -> bool:
    """Return whether ``error``, or what it was raised from, is a shortage of file descriptors."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            return True
        cause = cause.__cause__
    return False
