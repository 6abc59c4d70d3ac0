"""End this process when the process that started it is gone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

from reglab.core import signals

_POLL_SECONDS = 0.5


def exit_with_parent(
    grace: float, terminate: bool = True, parent_alive: Callable[[], bool] | None = None
) -> threading.Event:
    """Exit soon after the parent process is gone, whatever ended it, with the group that this
    leads.

    Args:
        grace: Seconds from then until this process exits.
        terminate: Whether it gets SIGTERM at once, by which training saves its state and ends.
        parent_alive: Returns False once the parent is gone, and may wait for that; None: by its
            process id, or by Python's pipe from it where a fork server stands in between.

    Returns:
        An event that ends the watch when it is set.
    """
    finished = threading.Event()
    alive = parent_alive or _parent_alive()
    threading.Thread(target=_watch, args=(alive, grace, terminate, finished), daemon=True).start()
    return finished


def forked_parent_alive() -> Callable[[], bool] | None:
    """Return what tells by its process id whether the parent lives that forked this process; None
    where a fork server did.

    Python's pipe does not tell: its other end the processes that were forked later have, too.
    """
    parent, number = multiprocessing.parent_process(), os.getppid()
    forked = parent is not None and parent.pid == number
    return (lambda: os.getppid() == number) if forked else None


def _parent_alive() -> Callable[[], bool]:
    parent, number = multiprocessing.parent_process(), os.getppid()
    return parent.is_alive if parent is not None else lambda: os.getppid() == number


def _watch(alive: Callable[[], bool], grace: float, terminate: bool, finished: threading.Event) -> None:
    while alive():
        if finished.wait(_POLL_SECONDS):
            return
    if terminate and not finished.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
    if finished.wait(grace):
        return
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with its children, such as a C++ compiler
    os._exit(signals.exit_code())
