"""Signal handlers for Ctrl-C, SIGTERM and SIGHUP: training stops after its current step."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Ctrl-C; a preempted machine; a terminal that hangs up; the warnings of batch systems, such as
# Slurm's ``--signal=USR1@90``, which would kill the process unsaved.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
HANDLED = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_ALWAYS = (signal.SIGINT, signal.SIGTERM)  # the others only where nobody ignores or handles them: nohup does
_NOTE = b"\nStopping after this step and saving; press Ctrl-C again to stop at once.\n"


class Interrupted(KeyboardInterrupt):
    """A signal that asks to end arrived: SIGINT, SIGTERM, SIGHUP, or a batch system's warning.

    Args:
        number: The number of the signal.

    Attributes:
        reported: Whether the user has been told what was left behind and how to resume.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = int(number)
        self.reported = False


class _State:
    stop_signal: int | None = None
    deferring = False
    ignore_repeats = False


_state = _State()


def stop_signal() -> int | None:
    """Return the number of the signal that asked training to stop after this step, or None.

    Python delivers signals to the main thread only: training in another thread is never stopped.
    """
    return _state.stop_signal if threading.current_thread() is threading.main_thread() else None


def exit_code(default: int = signal.SIGINT) -> int:
    """Return the shell's exit code of a process ended by the latest signal, such as 130 or 143."""
    return 128 + int(_state.stop_signal or default)


@contextmanager
def handle_signals(ignore_repeats: bool = False) -> Iterator[None]:
    """Handle signals that ask to end inside the context: raise Interrupted, or see ``defer_signals``.

    SIGHUP and the warnings of batch systems are left where they are ignored (``nohup``) or handled
    by others. Does nothing outside the main thread, where Python delivers no signals.

    Args:
        ignore_repeats: Ignore signals after the first, for a process that is signalled repeatedly.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in HANDLED if _is_free(number)}
    _state.ignore_repeats, _state.stop_signal = ignore_repeats, None
    install_handlers()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Inside the context the first signal only sets ``stop_signal``: the step is finished.

    The second raises Interrupted and a third ends the process at once, unless repeats are ignored.
    A signal from before the context counts too: Python swallows what is raised inside ``__del__``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGINT) is not _handle:
        with handle_signals(), defer_signals():
            yield
        return
    _state.deferring = True
    try:
        yield
    finally:
        _state.deferring = False


def install_handlers() -> None:
    """Install our handlers again: Lightning replaces them when it starts to train."""
    if threading.current_thread() is threading.main_thread():
        for number in HANDLED:
            if _is_free(number):
                signal.signal(number, _handle)


def _is_free(number: int) -> bool:
    return number in _ALWAYS or signal.getsignal(number) in (signal.SIG_DFL, _handle)


def was_signalled(error: BaseException) -> bool:
    """Tell whether an exception is an interruption by a signal, not one that code raised itself.

    Args:
        error: Any.
    """
    if not isinstance(error, KeyboardInterrupt) or isinstance(error, Interrupted):
        return isinstance(error, Interrupted)
    listening = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is _handle
    return _state.stop_signal is not None or not listening  # unless we do, Python raises it by itself


@contextmanager
def blocked(*numbers: int) -> Iterator[None]:
    """Block signals inside the context; a process started in it has them blocked until ``unblock``."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Unblock SIGINT and SIGTERM, which may have been blocked when this process was started."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def _handle(number: int, frame: FrameType | None) -> None:
    first = _state.stop_signal is None
    if not first and _state.ignore_repeats:
        return
    _state.stop_signal = number
    if first and _state.deferring:
        if number == signal.SIGINT and multiprocessing.parent_process() is None:
            with suppress(OSError):  # the terminal is gone
                if os.isatty(2):
                    os.write(2, _NOTE)  # not print: the signal may have come in the middle of one
        return
    if not first:  # and repeats count
        signal.signal(number, signal.SIG_DFL)  # a third signal kills the process
    raise Interrupted(number)
