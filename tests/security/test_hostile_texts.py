"""Texts that somebody else wrote into a store, a journal or a server's answer: no terminal is steered by them."""

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import forked
from reglab.cli import command as cli
from reglab.tracking.folder import read_identity
from security.hostile_folders import change_identity
from security.listening_server import listening
from training.job_case import SMALL, close

TITLE, BIDI, FORGED = "\x1b]0;owned\x07", "\u202egnp.exe", "x\nreglab: everything is fine"
CLEAR, ANSWER, CSI = "\x1b[2J\x1b[H", "\x1b[6n\x1b]52;c;cm0gLXJm\x07", "\x9b2J"
EVIL = f"{TITLE}{CLEAR}{ANSWER}{CSI}{BIDI}[red]{FORGED}[/red]\r"
WORDS = ["-m", *(word for word in SMALL if "max_epochs" not in word), "trainer.max_epochs=1", "seed=0,1"]
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Path:
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(template, folder / "reglab.db")
    words = ["train", *WORDS, "hydra.sweep.dir=runs/it", "sweep.test=false"]
    done = forked.run(["-m", "reglab", *words], cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder whose store somebody else wrote to: all texts that MLflow lets anybody choose."""
    work = tmp_path / "work"
    shutil.copytree(made, work)
    for path in work.glob("runs/it/**/run.json"):
        change_identity(path.parent, uri=f"sqlite:///{work}/reglab.db")
    with closing(sqlite3.connect(work / "reglab.db")) as store:
        store.execute("UPDATE runs SET name = ? || name", (EVIL,))
        store.execute("UPDATE experiments SET name = ? || name", (EVIL,))
        for key in ("mlflow.runName", "reglab.regularizer", "reglab.block", "reglab.message", "reglab.score"):
            store.execute("UPDATE tags SET value = ? || value WHERE key = ?", (EVIL, key))
        store.execute("UPDATE tags SET value = ? || value WHERE key = 'reglab.folder'", (f"/{EVIL}",))
        store.execute("UPDATE params SET value = ? || value WHERE key IN ('data.name', 'optimizer.lr')", (EVIL,))
        store.commit()
    monkeypatch.chdir(work)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    yield work
    close(work)


def said_by(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the command prints, without Rich's own styles."""
    cli.main(words)
    captured = capsys.readouterr()
    return captured.out + captured.err


def check(said: str) -> None:
    assert "Traceback" not in said
    assert not STEERS.search(said), ascii(said)
    assert "\nreglab: everything is fine" not in said


def test_names_of_a_store_steer_no_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent = read_identity(folder / "runs" / "it").run_id
    job = read_identity(folder / "runs" / "it" / "0").run_id
    known = [["report", parent], ["report", "runs/it"], ["report", "no such run"], ["resume", "no such run"]]
    shutil.rmtree(folder / "runs")  # and a run whose folder is not here
    for words in [*known, ["resume", job], ["report", job]]:
        said = said_by(words, capsys)
        check(said)
    assert "\\x1b]0;owned" in said_by(["resume", job], capsys)


def test_messages_of_a_journal_and_of_a_folder_steer_no_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "runs" / "it" / "0"
    change_identity(run, name=EVIL)
    with (run / "journal.jsonl").open("a") as journal:
        journal.write('{"time": 1, "tags": {"reglab.failure": "diverged", "reglab.message": "'
                      '\\u001b]0;owned\\u0007\\u001b[2J\\u202ex\\nreglab: everything is fine"}}\n'
                      '{"time": 2, "status": "FAILED"}\n')  # fmt: skip
    for words in (["resume", "runs/it/0"], ["sync"], ["clean", "--yes"], ["report", "runs/it/0"], ["resume", EVIL]):
        check(said_by(words, capsys))
    for values in ({"run_id": f"{EVIL}{'a' * 32}"}, {"local": EVIL}, {"uri": f"http://127.0.0.1:9/{EVIL}"}):
        change_identity(run, **values)
        for words in (["resume", "runs/it/0"], ["sync"], ["clean", "--yes"], ["report", "runs/it/0"]):
            check(said_by(words, capsys))


def test_answers_of_a_server_steer_no_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening() as server:
        server.answers = {"runs/get": {"error_code": EVIL, "message": EVIL}, "experiments/search": {"message": EVIL}}
        change_identity(folder / "runs" / "it", uri=server.uri)
        for words in (["report", "runs/it"], ["resume", "runs/it"], ["sync", "runs/it"]):
            check(said_by([words[0], "--uri", server.uri, *words[1:]], capsys))
        assert server.requests
