"""Signals: the first in training waits for the step's end, the second does not; elsewhere none waits."""

import os
import signal
import threading

import pytest

from reglab.core import signals
from reglab.core.signals import Interrupted


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_outside_training_a_signal_interrupts_at_once(number: int, code: int) -> None:
    before = signal.getsignal(number)
    with signals.listening(), pytest.raises(Interrupted) as caught:
        send(number)
    assert caught.value.number == number
    assert signals.code() == code
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_training_the_first_only_asks_and_the_second_interrupts(number: int) -> None:
    with signals.listening(), signals.deferred():
        assert signals.asked() is None
        send(number)
        assert signals.asked() == number
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)


def test_a_patient_process_hears_only_the_first() -> None:
    with signals.listening(patient=True), signals.deferred():
        for _ in range(3):
            send(signal.SIGINT)
        assert signals.asked() == signal.SIGINT


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # that is the case
def test_a_signal_that_python_swallowed_ends_training_after_its_first_step() -> None:
    class Dying:
        def __del__(self) -> None:
            send(signal.SIGTERM)  # what is raised here goes nowhere

    with signals.listening(patient=True):
        Dying()
        with signals.deferred():
            assert signals.asked() == signal.SIGTERM


def test_deferring_alone_listens_for_as_long_as_it_lasts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals.deferred():
        send(signal.SIGINT)
        assert signals.asked() == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_a_library_that_took_the_handlers_gives_them_back() -> None:
    with signals.listening():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signals.answer()
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)


def test_another_thread_gets_no_signals_and_no_error() -> None:
    told = []

    def train() -> None:
        with signals.listening(), signals.deferred():
            told.append(signals.asked())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert told == [None]
