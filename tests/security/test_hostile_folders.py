"""Every command on every hostile folder: one sentence, nothing outside touched, nothing waited for."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reglab.cli import command as cli
from reglab.core.errors import UserError
from reglab.tracking import reopen_run, send
from reglab.tracking.folder import JOURNAL, read_identity
from reglab.tracking.folder_gate import check_sweep_folder
from reglab.tracking.run_state import read_state
from reglab.training import restore
from security.hostile_contents import ADVICE, CONTENTS
from security.hostile_folders import FOLDERS, PRECIOUS
from training.job_case import SMALL, close

COMMANDS: dict[str, Callable[[Path], object]] = {
    "resume": lambda folder: cli.main(["resume", str(folder), "trainer.max_epochs=2"]),
    "report": lambda folder: cli.main(["report", str(folder)]),
    "sync": lambda folder: cli.main(["sync", str(folder)]),
    "clean": lambda folder: cli.main(["clean", "--yes", str(folder)]),
    "load": lambda folder: restore.load(folder),
    "load best": lambda folder: restore.load(folder, "best"),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Path]:
    """A working folder with a finished run, never changed: tests copy the run."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copy(template, folder / "reglab.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = [*(word for word in SMALL if "max_epochs" not in word), "trainer.max_epochs=1", "hydra.run.dir=runs/it"]
        assert cli.main(["train", *words]) == 0
        yield folder
    close(folder)


@pytest.fixture
def received(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(work)
    shutil.copytree(work / "runs" / "it", tmp_path / "inner" / "runs" / "it")
    (tmp_path / "precious").write_text(PRECIOUS)
    return tmp_path / "inner" / "runs" / "it"


def outside(received: Path) -> dict[str, str]:
    root = received.parents[2]
    return {path.name: path.read_text() for path in root.iterdir() if path.is_file()}


@pytest.mark.parametrize("trap", FOLDERS)
def test_no_command_leaves_the_folder_or_waits(
    received: Path, trap: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FOLDERS[trap](received, received.parents[2] / "precious")
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    said = {}
    for name, run in COMMANDS.items():
        try:
            code = run(received)
        except UserError as error:
            code, said[name] = 2, str(error)
        captured = capsys.readouterr()
        said.setdefault(name, captured.out + captured.err)
        assert "Traceback" not in said[name]
        assert outside(received) == {"precious": PRECIOUS}, name
        if name in ("resume", "report", "load"):
            assert code == 2, said[name]
        if name in ("resume", "load"):
            assert any(word in said[name] for word in ("link out of", "second name", "pipe, socket")), said[name]
    assert {path.name for path in received.parents[2].iterdir()} == {"precious", "inner"}


@pytest.mark.parametrize("trap", FOLDERS)
def test_every_reader_of_a_run_passes_the_gate(received: Path, trap: str) -> None:
    FOLDERS[trap](received, received.parents[2] / "precious")
    for read in (read_identity, read_state, reopen_run, send, check_sweep_folder):
        with pytest.raises(UserError, match=r"link out of|second name|pipe, socket"):
            read(received)
    with pytest.raises(UserError, match=r"link out of|second name|pipe, socket"):
        check_sweep_folder(received.parent)


@pytest.mark.parametrize("name", ["\x1b[2Jgone", "a\nreglab: everything is fine", "\u202egnp"])
def test_a_folders_name_steers_no_terminal(received: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    named = received.rename(received.with_name(name))
    for run in COMMANDS.values():
        try:
            run(named)
        except UserError as error:
            print(error)
    captured = capsys.readouterr()
    assert name not in captured.out + captured.err
    assert "characters that steer a terminal: rename it" in captured.out + captured.err


def test_a_sweeps_folder_has_no_job_elsewhere(tmp_path: Path) -> None:
    """Hydra would write a job's configuration into it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "sweep" / "own" / "deep").mkdir(parents=True)
    assert check_sweep_folder(tmp_path / "sweep") == tmp_path / "sweep"
    (tmp_path / "sweep" / "own" / "0").symlink_to(tmp_path / "home")
    with pytest.raises(UserError, match="link out of"):
        check_sweep_folder(tmp_path / "sweep")


def test_what_a_program_of_the_user_leaves_in_a_folder_of_its_own_is_no_trap(received: Path) -> None:
    (received / "wandb").mkdir()
    (received / "wandb" / "latest").symlink_to("/")
    (received / "data").symlink_to("/", target_is_directory=True)
    (received / "inside").symlink_to("config.yaml")
    assert read_identity(received).run_id


@pytest.mark.parametrize("content", CONTENTS)
def test_no_content_is_a_traceback_or_acts(
    received: Path, content: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run in a folder of its own, which has no store at hand."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    CONTENTS[content](received)
    commands = {**COMMANDS, "rebuild": lambda folder: cli.main(["sync", "--rebuild", str(folder)])}
    for name, run in commands.items():
        try:
            run(received)
        except UserError as error:
            print(error)
        captured = capsys.readouterr()
        said = captured.out + captured.err
        assert "Traceback" not in said, (name, said)
        assert len(said) < 10_000, name
        assert f"{ADVICE} " not in said.replace("\n", " "), (name, said)  # in quotes a shell runs nothing of it
    assert {path.name for path in received.parents[2].iterdir()} == {"precious", "inner"}


def test_a_pipe_is_waited_for_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs" / "experiment").mkdir(parents=True)
    for name in ("it.ckpt", "theirs/experiment/evil.yaml"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="not a plain file"):
        restore.load(tmp_path / "it.ckpt")
    assert cli.main(["train", "--config-dir", "theirs", "experiment=evil"]) == 2


def test_a_file_that_goes_while_its_folder_is_checked_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    @contextmanager
    def scan_and_remove(folder: Path) -> Iterator[list["os.DirEntry[str]"]]:
        with scan(folder) as found:
            entries = list(found)
        for entry in entries:
            Path(entry.path).unlink()
        yield entries

    (tmp_path / JOURNAL).write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scan_and_remove)
        assert check_sweep_folder(tmp_path) == tmp_path
    assert list(tmp_path.iterdir()) == []
