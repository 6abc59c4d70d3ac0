"""What ``reglab clean`` takes away, and what it must not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reglab.cli.sync_clean import clean as command
from reglab.core.errors import UserError
from reglab.tracking import RunTracker, TrackingSettings, open_run, open_sweep
from reglab.tracking.admin.clean import clean
from reglab.tracking.folder import read_identity

Start = Callable[..., RunTracker]
DEAD = 2**22 + 1  # above the largest process number of Linux


def grow(run: RunTracker, *names: str) -> None:
    for name in names:
        path = run.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 1_000_000)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "run.lock"}


def cleaned(settings: TrackingSettings, folder: Path, answer: bool | None = True) -> tuple[list[str], list[str]]:
    """Clean and return what was said, and what was asked."""
    said: list[str] = []
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return bool(answer)

    assert clean([folder], settings.uri, None if answer is None else ask, said.append) == 0
    return said, asked


def test_leftovers_and_earlier_checkpoints_of_finished_runs_go(
    settings: TrackingSettings, start: Start, tmp_path: Path
) -> None:
    finished, killed, running = start("finished"), start("killed"), start("running")
    names = ["checkpoints/last.ckpt", "checkpoints/last.previous.ckpt", "checkpoints/best.previous.ckpt"]
    for run in (finished, killed, running):
        grow(run, *names, f"checkpoints/.last.ckpt.{DEAD}.partial", f".run.json.{os.getpid()}.partial")
    finished.artifact(finished.folder / "checkpoints" / "last.ckpt")
    finished.finish()
    killed.finish("KILLED")
    before = tree(tmp_path)
    said, asked = cleaned(settings, tmp_path / "runs", answer=False)
    assert asked == ["Free 4.0 MB?"]
    assert tree(tmp_path) == before
    assert any(line.split() == ["checkpoints", "9", "9.0"] for line in said)
    assert any(line.split()[-3:] == ["runs", "2", "2.0"] and line.startswith("earlier") for line in said)
    said, _ = cleaned(settings, tmp_path / "runs")
    assert said[-1] == "Freed 4.0 MB."
    gone = {f"runs/finished/{name}" for name in names[1:]}
    gone |= {f"runs/{name}/checkpoints/.last.ckpt.{DEAD}.partial" for name in ("finished", "killed")}
    assert before - tree(tmp_path) == gone
    running.finish()
    assert cleaned(settings, tmp_path / "runs")[0][-1] == "Freed 3.0 MB."


def test_a_finished_sweep_needs_no_checkpoint_of_a_pack(settings: TrackingSettings, tmp_path: Path) -> None:
    sweep = open_sweep(settings, name="sweep", folder=tmp_path / "sweep", params={}, tags={})
    member = open_run(settings, name="m", folder=sweep.folder / "0", config={}, params={}, tags={}, parent=sweep.run_id)
    grow(member, "pack.ckpt", "pack.previous.ckpt", "pack.json")
    member.finish()
    assert cleaned(settings, tmp_path / "sweep")[1] == []  # the sweep is running
    sweep.finish("KILLED")
    assert cleaned(settings, tmp_path / "sweep")[0][-1] == "Nothing can be freed."
    from reglab.tracking import reopen_run

    reopen_run(sweep.folder).finish()
    assert cleaned(settings, tmp_path / "sweep")[1] == ["Free 3.0 MB?"]
    assert not list(member.folder.glob("pack*"))


def test_deleted_runs_go_with_their_artifacts_but_not_the_runs_below_them(
    settings: TrackingSettings, client: Any, store: Path, tmp_path: Path
) -> None:
    sweep = open_sweep(settings, name="sweep", folder=tmp_path / "sweep", params={}, tags={}, config={"a": 1})
    jobs = []
    for number in range(3):
        folder = sweep.folder / str(number)
        job = open_run(settings, name="j", folder=folder, config={"a": 1}, params={}, tags={}, parent=sweep.run_id)
        grow(job, "checkpoints/last.ckpt")
        job.artifact(job.folder / "checkpoints" / "last.ckpt", "checkpoints")
        job.log({"loss": 1.0}, 1)
        jobs.append(job)
    for run in (*jobs[:2], sweep):
        run.finish()
    store.rename(tmp_path / "away.db")
    jobs[2].finish()  # unsent
    (tmp_path / "away.db").rename(store)
    for run in (sweep, jobs[0], jobs[2]):
        client.delete_run(run.run_id)
    places = {run.run_id: tmp_path / "mlartifacts" / run.run_id for run in (sweep, *jobs)}
    said, asked = cleaned(settings, tmp_path / "sweep")
    assert asked == ["Free 1.0 MB?"]  # the checkpoint and its artifact are one file
    assert said[-1] == "Freed 1.0 MB."
    assert not jobs[0].folder.exists()
    assert not (sweep.folder / "run.json").exists()
    assert [places[run.run_id].exists() for run in (sweep, *jobs)][:3] == [False, False, True]
    assert {"run.json", "journal.jsonl", "checkpoints/last.ckpt", "config.yaml"} <= tree(jobs[1].folder)
    assert (jobs[2].folder / "checkpoints" / "last.ckpt").exists()


def test_only_the_users_own_store_is_asked(settings: TrackingSettings, start: Start, client: Any) -> None:
    run = start()
    run.finish()
    client.delete_run(run.run_id)
    said: list[str] = []
    clean([run.folder], "sqlite:////absent/reglab.db", lambda question: True, said.append)
    assert said[-1] == "Nothing can be freed."
    assert read_identity(run.folder).run_id == run.run_id


def test_links_are_not_followed(settings: TrackingSettings, start: Start, client: Any, tmp_path: Path) -> None:
    run = start()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "last.previous.ckpt").write_text("mine")
    (run.folder / "checkpoints").symlink_to(tmp_path / "precious")
    run.finish()
    assert cleaned(settings, run.folder)[1] == []
    client.delete_run(run.run_id)
    assert cleaned(settings, run.folder)[0][-1] == "Nothing can be freed."  # a folder with a link out of it is left
    (run.folder / "checkpoints").rename(run.folder / "plots")  # a program's own folder in it may have one
    (run.folder / "own").mkdir()
    (run.folder / "plots").rename(run.folder / "own" / "plots")
    cleaned(settings, run.folder)
    assert not run.folder.exists()
    assert (tmp_path / "precious" / "last.previous.ckpt").exists()


def test_a_torn_run_is_left_alone(settings: TrackingSettings, start: Start) -> None:
    run = start()
    grow(run, "checkpoints/last.previous.ckpt")
    run.finish()
    (run.folder / "run.json").write_text("{")
    assert cleaned(settings, run.folder)[0][-1] == "Nothing can be freed."


def test_the_command_asks_in_a_terminal_only(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start()
    grow(run, "checkpoints/last.previous.ckpt")
    run.finish()
    monkeypatch.chdir(tmp_path)
    assert command([]) == 0
    assert "To free 1.0 MB, run this in a terminal or with --yes." in capsys.readouterr().out
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    for answer in ("", "no", "n"):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert command([]) == 0
        assert (run.folder / "checkpoints" / "last.previous.ckpt").exists()
    assert command(["--yes", "runs"]) == 0
    assert not (run.folder / "checkpoints" / "last.previous.ckpt").exists()
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(UserError, match="there is no folder runs/ here"):
        command([])
