"""Ctrl-C and SIGTERM: training ends after the step that it is in, anything else at once."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ANSWERED = (signal.SIGINT, signal.SIGTERM)
_NOTE = b"\nEnding after this step and saving; once more ends at once.\n"


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came. number: the signal's. told: whether the user was told what it left and how to go on."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = int(number)
        self.told = False


class _State:
    asked: int | None = None
    deferring = False
    patient = False


_state = _State()


def asked() -> int | None:
    """Return the number of the signal that asked training to end after this step; None if none did.

    Python gives signals to the main thread alone: what trains in another is never asked.
    """
    return _state.asked if threading.current_thread() is threading.main_thread() else None


def code(default: int = signal.SIGINT) -> int:
    """Return the exit code of a process that ends because of the latest signal, as shells have it: 130, 143."""
    return 128 + int(_state.asked or default)


@contextmanager
def listening(patient: bool = False) -> Iterator[None]:
    """Answer SIGINT and SIGTERM inside the context by raising Interrupted, but in training as ``deferred`` says.

    patient: signals after the first are ignored: the process is asked again and again. Does nothing outside the main
    thread, where Python gives no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ANSWERED}
    _state.patient, _state.asked = patient, None
    answer()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Inside the context the first signal only lets ``asked`` tell it, so that a step ends and is saved.

    The second one raises Interrupted, and a third ends the process there and then, unless it listens patiently. A
    signal that came before counts, too: Python swallows what is raised inside ``__del__`` and the like.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGINT) is not _hear:
        with listening(), deferred():
            yield
        return
    _state.deferring = True
    try:
        yield
    finally:
        _state.deferring = False


def answer() -> None:
    """Take SIGINT and SIGTERM over again: Lightning puts handlers of its own in place when it starts to train."""
    if threading.current_thread() is threading.main_thread():
        for number in _ANSWERED:
            signal.signal(number, _hear)


def _hear(number: int, frame: FrameType | None) -> None:
    first = _state.asked is None
    if not first and _state.patient:
        return
    _state.asked = number
    if first and _state.deferring:
        if number == signal.SIGINT and sys.stderr.isatty() and multiprocessing.parent_process() is None:
            os.write(2, _NOTE)  # not print: the signal may have come in the middle of one
        return
    if not first:  # not patient
        signal.signal(number, signal.SIG_DFL)  # whoever asks a third time means it
    raise Interrupted(number)
