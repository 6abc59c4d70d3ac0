"""Exit causes of worker processes, and their limits."""

import os
import subprocess
import sys

import psutil
import pytest

from reglab.core.errors import UserError
from reglab.launchers.exit_causes import Limits, exit_cause, was_terminated

GROWN = "grown = b'x' * 300_000_000; print('grown', flush=True); input()"


@pytest.mark.parametrize(
    "code, part",
    [
        (-9, "memory"),
        (-11, "SIGSEGV"),
        (139, "SIGSEGV"),
        (1, "exit code 1"),
        (255, "exit code 255"),
        (None, "exit code"),
        (-200, "signal 200"),
    ],
)
def test_why_dead(code, part):
    assert part in exit_cause(code)


@pytest.mark.parametrize(
    "code, asked", [(0, False), (-15, True), (143, True), (129, True), (-9, False), (1, False), (None, False)]
)
def test_who_was_asked_to_end(code, asked):
    assert was_terminated(code) is asked


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": -1.5}, {"memory": 0}, {"memory": float("nan")}])
def test_limits_that_make_no_sense_are_refused(wrong):
    (key,) = wrong
    with pytest.raises(UserError, match=f"hydra.launcher.{key} must be null or"):
        Limits(**wrong)


def test_time_that_ran_out():
    limits = Limits(timeout=2)
    assert limits.exceeded(os.getpid(), 119.9) is None
    exceeded = limits.exceeded(os.getpid(), 120.1)
    assert "longer than 2 minutes (hydra.launcher.timeout)" in exceeded.reason
    assert not exceeded.over_memory


def test_memory_is_measured_with_that_of_children():
    here = psutil.Process()  # which may have children already, of other tests
    before = sum(process.memory_info().rss for process in [here, *here.children(recursive=True)])
    limits = Limits(memory=before / 1e9 + 0.15)
    child = subprocess.Popen([sys.executable, "-S", "-c", GROWN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"grown\n"
        exceeded = limits.exceeded(os.getpid(), 1e9)
    finally:
        child.communicate(b"\n")
    assert exceeded.over_memory
    assert "(hydra.launcher.memory)" in exceeded.reason
    assert limits.exceeded(os.getpid(), 0) is None


def test_a_process_that_is_gone_takes_nothing():
    assert Limits(memory=1e-9).exceeded(2**22 + 1, 0) is None  # beyond the largest number that Linux gives
