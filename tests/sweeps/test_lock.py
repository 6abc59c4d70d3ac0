"""One process at a time runs a sweep, and a dead one does not stop the next."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reglab.core.errors import UserError
from reglab.sweeps.lock import start_lock, sweep_lock

HOLD = (
    "import sys, pathlib; from reglab.sweeps.lock import sweep_lock\n"
    "with sweep_lock(pathlib.Path(sys.argv[1])): print(); input()"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_has_it(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    for _ in range(2):  # asking changes nothing
        with (
            pytest.raises(UserError, match=rf"process {holder.pid} is running the sweep in {tmp_path}"),
            sweep_lock(tmp_path),
        ):
            pass


def test_a_dead_process_leaves_no_lock(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    with sweep_lock(tmp_path):
        assert (tmp_path / "sweep.pid").exists()


def test_it_can_be_taken_again_and_leaves_no_name_behind(tmp_path: Path) -> None:
    for _ in range(2):
        with sweep_lock(tmp_path):
            pass
        assert not (tmp_path / "sweep.pid").exists()


def test_a_failure_inside_gives_it_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sweep_lock(tmp_path):
        _ = 1 / 0
    with sweep_lock(tmp_path):
        pass


def test_a_store_that_is_a_server_is_locked_in_a_folder_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for _ in range(2):
        with start_lock("http://127.0.0.1:5000"):
            (folder,) = tmp_path.iterdir()
            assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("planted", ["link", "open"])
def test_a_folder_that_somebody_else_planted_is_refused(
    planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with start_lock("http://127.0.0.1:5000"):
        (folder,) = tmp_path.iterdir()
    if planted == "open":
        folder.chmod(0o777)
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(UserError, match="is not a folder that you alone can write"),
        start_lock("http://127.0.0.1:5000"),
    ):
        pass


def test_a_store_that_another_process_holds_for_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reglab.sweeps.lock._PATIENCE", 0.0)
    monkeypatch.setattr("reglab.sweeps.lock._LONGEST", 0.0)
    uri = f"sqlite:///{tmp_path / 'reglab.db'}"
    with start_lock(uri), pytest.raises(UserError, match="end it, then give the same command again"), start_lock(uri):
        pass
    assert "Ctrl-C ends it" in capsys.readouterr().err
