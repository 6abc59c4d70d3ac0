"""Child processes have one place that starts, signals and watches them, and end together."""

import multiprocessing
import os
import re
import signal
from pathlib import Path

import psutil
import pytest
from tests.processes.standin_rank import interrupting, sending

import reglab
from reglab.processes.child_processes import ChildProcesses

SPAWN = multiprocessing.get_context("spawn")
LONG = 60  # seconds after which a test that waits has failed


def test_the_first_error_is_raised_again_and_the_rest_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("reglab.processes.child_processes._EXIT_SECONDS", 0.1)
    with ChildProcesses() as children:
        for rank in (1, 2):
            children.start(rank, SPAWN, sending, rank, ("hang", "raise"), str(tmp_path))
        while not (tmp_path / "1").exists():
            assert children.running[0].rank == 1
            children.poll(0.01)
        with pytest.raises(ValueError, match="a bug") as told:
            children.wait()
    assert "In the process of rank 2" in told.value.__notes__[0]
    assert not psutil.pid_exists(int((tmp_path / "1").read_text().split()[0]))


@pytest.mark.parametrize("what, message", [("die", "exit code -9: it was killed"), ("end", None)])
def test_an_exit_code_is_told_where_nothing_was_raised(what, message, tmp_path):
    with ChildProcesses() as children:
        child = children.start(1, SPAWN, sending, 1, (what,), str(tmp_path))
        if message:
            with pytest.raises(RuntimeError, match=message):
                children.wait()
        else:
            children.wait()
    assert child.code == (-9 if message else 0)


def test_a_child_that_was_interrupted_exits_as_a_shell_would_say(tmp_path):
    with ChildProcesses() as children:
        child = children.start(1, SPAWN, sending, 1, ("asked",), str(tmp_path))
        with pytest.raises(KeyboardInterrupt):
            children.wait()
    assert child.code == 128 + signal.SIGTERM


def test_ctrl_c_reaches_every_child_and_is_raised_when_all_have_ended(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ChildProcesses() as children:
            child = children.start(1, SPAWN, interrupting, str(tmp_path), os.getpid())
            with pytest.raises(KeyboardInterrupt):
                children.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "saved").exists()
    assert child.process.exitcode == 128 + signal.SIGINT


def test_processes_are_started_signalled_and_watched_in_one_place():
    sources = {path.name: path.read_text(encoding="utf-8") for path in Path(reglab.__file__).parent.rglob("*.py")}

    def users(pattern: str) -> set[str]:
        return {name for name, text in sources.items() if re.search(pattern, text)}

    assert users(r"(?<!psutil)\.Process\(") == {"child_processes.py"}
    assert users(r"killpg") == {"child_processes.py", "parent_watch.py"}
    assert users(r"getppid") == {"parent_watch.py"}
    assert users(r"Popen\(") == {"compilation.py", "dashboard.py"}
