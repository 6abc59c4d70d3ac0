"""What one job changes of its process, the next one does not meet."""

import signal

import pytest
import torch

from reglab.training.process_state import process_restored


def state() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
    )


def change() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_grad_enabled(False)
    torch.autograd.set_detect_anomaly(True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def test_settings_and_handlers_are_put_back() -> None:
    before = state()
    with process_restored():
        change()
        assert state() != before
    assert state() == before


def test_they_are_put_back_after_an_error() -> None:
    before = state()

    def fail() -> None:
        change()
        raise ValueError("a shape")

    with pytest.raises(ValueError, match="a shape"), process_restored():
        fail()
    assert state() == before
