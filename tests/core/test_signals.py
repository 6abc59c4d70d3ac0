"""Signals: the first in training waits for the step's end, the second does not.

Elsewhere none waits.
"""

import os
import signal
import threading

import pytest

from reglab.core import signals
from reglab.core.signals import Interrupted


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)]
)
def test_outside_training_a_signal_interrupts_at_once(number: int, code: int) -> None:
    before = signal.getsignal(number)
    with signals.handle_signals(), pytest.raises(Interrupted) as caught:
        send(number)
    assert caught.value.number == number
    assert signals.exit_code() == code
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU])
def test_in_training_the_first_only_asks_and_the_second_interrupts(number: int) -> None:
    with signals.handle_signals(), signals.defer_signals():
        assert signals.stop_signal() is None
        send(number)
        assert signals.stop_signal() == number
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)


def test_a_patient_process_hears_only_the_first() -> None:
    with signals.handle_signals(ignore_repeats=True), signals.defer_signals():
        for _ in range(3):
            send(signal.SIGINT)
        assert signals.stop_signal() == signal.SIGINT


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # that is the case
def test_a_signal_that_python_swallowed_ends_training_after_its_first_step() -> None:
    class Dying:
        def __del__(self) -> None:
            send(signal.SIGTERM)  # what is raised here goes nowhere

    with signals.handle_signals(ignore_repeats=True):
        Dying()
        with signals.defer_signals():
            assert signals.stop_signal() == signal.SIGTERM


def test_deferring_alone_listens_for_as_long_as_it_lasts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals.defer_signals():
        send(signal.SIGINT)
        assert signals.stop_signal() == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_a_library_that_took_the_handlers_gives_them_back() -> None:
    with signals.handle_signals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signals.install_handlers()
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)


@pytest.mark.parametrize("taken", [signal.SIG_IGN, lambda number, frame: None])
def test_a_signal_that_nohup_ignores_or_others_handle_is_theirs(taken) -> None:
    before = signal.signal(signal.SIGHUP, taken)
    try:
        with signals.handle_signals(), signals.defer_signals():
            signals.install_handlers()
            send(signal.SIGHUP)
            assert signals.stop_signal() is None
        assert signal.getsignal(signal.SIGHUP) is taken
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_code_raises_itself_is_no_signal() -> None:
    with signals.handle_signals():
        assert signals.was_signalled(Interrupted(signal.SIGTERM))
        assert not signals.was_signalled(KeyboardInterrupt())
        assert not signals.was_signalled(SystemExit(0))
        with signals.defer_signals():
            send(signal.SIGINT)
            assert signals.was_signalled(KeyboardInterrupt())  # as Lightning may make it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert signals.was_signalled(KeyboardInterrupt())  # nobody but Python listens: it is Ctrl-C
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_gets_no_signals_and_no_error() -> None:
    told = []

    def train() -> None:
        with signals.handle_signals(), signals.defer_signals():
            told.append(signals.stop_signal())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert told == [None]
