"""The process that workers are forked from: whether it died, and its end."""

import os
import signal
import time
from contextlib import suppress

_UNKNOWN = 255  # the exit code that Python reports where the server does not tell
_SECONDS_TO_DIE, _POLL_SECONDS = 1.0, 0.01


def server_pid() -> int | None:
    """Return the process id of multiprocessing's fork server; None where none was started."""
    from multiprocessing import forkserver

    pid: int | None = getattr(forkserver._forkserver, "_forkserver_pid", None)
    return pid


def server_died(pid: int | None, exit_code: int | None) -> bool:
    """Tell whether a process seems to have ended only because its fork server did.

    Python reports exit code 255 for all of its processes then, although they may still run.

    Args:
        pid: As ``server_pid`` was when the process was started.
        exit_code: Of the process.
    """
    if pid is None or exit_code != _UNKNOWN or not hasattr(os, "waitid"):
        return False
    deadline = time.monotonic() + _SECONDS_TO_DIE  # its pipes are closed a little before its end can be seen
    with suppress(OSError):  # Python has seen its end already
        while pid == server_pid() and time.monotonic() < deadline:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
            time.sleep(_POLL_SECONDS)
        return pid != server_pid()  # Python has started another one
    return True


def end_server() -> None:
    """End the fork server, which would first finish importing torch, with our pipes open."""
    if pid := server_pid():
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)
