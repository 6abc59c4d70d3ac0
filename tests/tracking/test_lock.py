"""One process at a time runs a run, and a dead one does not stop the next."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reglab.core.errors import UserError
from reglab.tracking import TrackingSettings, is_running, open_run, reopen_run
from reglab.tracking.lock import RunLock

HOLD = """
import sys
from pathlib import Path
from reglab.tracking.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print(flush=True)
input()
"""
# The child of a fork ends when its standard input does; the parent tells the child's number and
# waits to be killed.
HOLD_AND_FORK = """
import os, sys
from pathlib import Path
from reglab.tracking.lock import RunLock, is_running
locks = [RunLock(Path(sys.argv[1]) / str(number)) for number in range(64)]
child = os.fork()
if not child:
    locks[0].release()  # nothing is left of it
    sys.stdin.read()
    os._exit(0)
assert all(is_running(Path(sys.argv[1]) / str(number)) for number in range(64))
print(child, flush=True)
os.waitpid(child, 0)
"""


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run in ``tmp_path``."""
    with start(HOLD, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def nothing_tracked(folder: Path) -> TrackingSettings:
    return TrackingSettings.from_config({"name": "none"}, folder)


def test_a_second_process_is_refused_and_told_who_has_it(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    for _ in range(2):  # asking changes nothing
        assert is_running(tmp_path)
        with pytest.raises(UserError, match=rf"process {holder.pid} is running the run in {tmp_path}: wait until"):
            open_run(nothing_tracked(tmp_path), name="run", folder=tmp_path, config={}, params={}, tags={})


def test_a_dead_process_leaves_no_lock(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    assert not is_running(tmp_path)
    RunLock(tmp_path).release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_of_a_killed_process_keeps_none_of_its_locks(tmp_path: Path) -> None:
    with start(HOLD_AND_FORK, tmp_path) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        assert not any(is_running(tmp_path / str(number)) for number in range(64))
        for number in range(64):
            RunLock(tmp_path / str(number)).release()


def test_a_run_is_held_until_it_ends_and_again_when_it_goes_on(tmp_path: Path) -> None:
    run = open_run(nothing_tracked(tmp_path), name="run", folder=tmp_path, config={}, params={}, tags={})
    assert is_running(tmp_path)
    with pytest.raises(UserError, match=f"process {os.getpid()} is running"):
        reopen_run(tmp_path)
    run.finish()
    assert not is_running(tmp_path)
    again = reopen_run(tmp_path)
    assert is_running(tmp_path)
    again.finish()
    assert not is_running(tmp_path)


def test_a_run_that_cannot_be_opened_gives_its_folder_back(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        reopen_run(tmp_path)
    assert not is_running(tmp_path)


def test_many_runs_are_held_or_none(tmp_path: Path) -> None:
    from reglab.tracking import RunSpec, open_runs

    held = RunLock(tmp_path / "1")
    with pytest.raises(UserError, match="is running the run in"):
        open_runs(nothing_tracked(tmp_path), [RunSpec("run", tmp_path / str(n), {}, {}, {}) for n in range(2)])
    assert not is_running(tmp_path / "0")
    assert not (tmp_path / "0" / "run.json").exists()
    held.release()


def test_nobody_runs_what_is_not_there(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    assert not is_running(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_place_of_the_lock_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("content")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="cannot write to"):
        RunLock(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "content"


def test_a_folder_that_only_others_may_write_is_looked_at(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.open

    def open_read_only(path: str, flags: int, mode: int = 0o777) -> int:  # root may write anywhere
        if flags & os.O_RDWR:
            raise PermissionError(path)
        return plain(path, flags, mode)

    monkeypatch.setattr(os, "open", open_read_only)
    assert is_running(tmp_path)
    holder.kill()
    holder.wait()
    assert not is_running(tmp_path)
