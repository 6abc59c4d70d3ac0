"""The folder of a run, by whatever names it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reglab.core.errors import UserError
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, find_folder, open_run, open_runs, open_sweep
from reglab.tracking.folder import read_identity, write_identity

Start = Callable[..., RunTracker]


def test_a_run_is_found_by_folder_id_and_name(
    start: Start, settings: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start("first")
    first.finish()
    elsewhere = open_run(settings, name="second", folder=tmp_path / "second", config={}, params={}, tags={})
    elsewhere.finish()
    monkeypatch.chdir(tmp_path)
    for run, names in (
        (first, ("runs/first", first.run_id, first.run_id[:8], "first")),
        (elsewhere, ("second", elsewhere.run_id, elsewhere.run_id[:8])),
    ):
        for name in names:
            assert find_folder(settings.uri, name) == run.folder
    monkeypatch.chdir(tmp_path / "runs")  # where no runs/ is: by the tag alone
    assert find_folder(settings.uri, first.run_id) == first.folder
    assert find_folder(settings.uri, "second") == elsewhere.folder


@pytest.mark.parametrize("backend", ["mlflow", "offline"])
def test_of_several_runs_of_a_name_none_is_taken_for_the_right_one(
    backend: Any, start: Start, settings: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start("run")
    first.finish("KILLED")
    again = open_run(
        replace(settings, backend=backend), name="run", folder=tmp_path / "runs/2", config={}, params={}, tags={}
    )
    again.finish()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as told:
        find_folder(settings.uri, "run")
    lines = str(told.value).splitlines()
    assert lines[0] == "'run' matches 2 runs: give the folder or the id of one"
    assert sorted(line.split() for line in lines[1:]) == [
        ["FINISHED", again.run_id, str(again.folder)], ["KILLED", first.run_id, str(first.folder)]
    ]  # fmt: skip


def test_a_run_that_gave_up_its_folder_is_not_meant_by_its_name(
    start: Start, settings: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("run").finish("FAILED")
    again = start("run")  # in the same folder
    again.finish()
    monkeypatch.chdir(tmp_path)
    assert find_folder(settings.uri, "run") == again.folder


def test_a_folder_of_the_same_name_is_not_in_the_way(
    start: Start, settings: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start("digits")
    run.finish()
    (tmp_path / "digits").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_folder(settings.uri, "digits") == run.folder
    with pytest.raises(UserError, match="empty holds no run"):
        find_folder(settings.uri, "empty")


def test_a_run_that_is_in_no_store_is_found_by_the_start_of_its_id(
    settings: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"config": {}, "params": {}, "tags": {}}
    run = open_run(replace(settings, backend="offline"), name="run", folder=tmp_path / "runs/1", **given)
    run.finish()
    monkeypatch.chdir(tmp_path)
    for uri in (settings.uri, "sqlite:////not/this.db"):
        assert find_folder(uri, run.run_id[:6]) == run.folder


@pytest.mark.parametrize(
    "word, message",
    [
        ("runs/2026-11-23/nope", "there is no folder runs/2026-11-23/nope"),
        ("/nope/1", "there is no folder /nope/1"),
        ("./runs", "./runs holds no run"),
        (".", ". holds no run"),
        ("", r"\(nothing\) holds no run"),
    ],
)
def test_a_path_that_leads_to_no_run_is_told_as_a_path(
    word: str, message: str, start: Start, settings: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("run").finish()
    monkeypatch.chdir(tmp_path)
    for uri in (settings.uri, "sqlite:////not/this.db"):
        with pytest.raises(UserError, match=message):
            find_folder(uri, word)


@pytest.mark.parametrize("backend", ["mlflow", "offline", "none"])
def test_every_run_says_where_it_is(backend: Any, settings: TrackingSettings, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = open_sweep(replace(settings, backend=backend), name="sweep", folder=Path("runs/s"), params={}, tags={})
    specs = [RunSpec(f"job {n}", Path("runs/s") / str(n), {}, {}, {}, parent=sweep.run_id) for n in range(2)]
    for run in [sweep, *open_runs(replace(settings, backend=backend), specs)]:
        run.finish()
        assert find_folder(settings.uri, run.run_id) == run.folder.resolve()
        texts = [path.read_text() for path in run.folder.iterdir() if path.suffix in (".json", ".jsonl")]
        if backend != "mlflow":
            assert any(f'"reglab.folder": "{run.folder}"' in t.replace('":"', '": "') for t in texts)
        assert find_folder(settings.uri, read_identity(run.folder).name) == run.folder


def test_a_run_that_a_server_numbered_is_found_by_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = TrackingSettings.from_config({"name": "none"}, tmp_path)
    run = open_run(settings, name="run", folder=Path("runs/1"), config={}, params={}, tags={})
    write_identity(run.folder, replace(read_identity(run.folder), local=run.run_id, run_id="of the server"))
    for number in (run.run_id, "of the server"):
        assert find_folder("sqlite:///absent.db", number) == run.folder
    run.finish()


def test_a_folder_that_is_not_here_is_told(start: Start, settings: TrackingSettings, tmp_path: Path) -> None:
    run, other = start("run"), start("other")
    for each in (run, other):
        each.finish()
    shutil.rmtree(run.folder)
    with pytest.raises(UserError, match=rf"was recorded in {run.folder}, which does not hold it on this machine"):
        find_folder(settings.uri, "run")
    os.rename(other.folder, run.folder)  # noqa: PTH104 - another run lies there now
    with pytest.raises(UserError, match="does not hold it on this machine"):
        find_folder(settings.uri, run.run_id)
    with pytest.raises(UserError, match="no run 'nun' in"):
        find_folder(settings.uri, "nun")


def test_a_folder_is_found_without_mlflow(tmp_path: Path) -> None:
    settings = TrackingSettings.from_config({"name": "none"}, tmp_path)
    open_run(settings, name="run", folder=tmp_path / "runs" / "1", config={}, params={}, tags={}).finish()
    script = (
        "import sys; from reglab.tracking import find_folder; find_folder('sqlite:///absent.db', sys.argv[1]);"
        "find_folder('sqlite:///absent.db', sys.argv[2]); print('mlflow' in sys.modules)"
    )
    words = [sys.executable, "-c", script, "runs/1", read_identity(tmp_path / "runs/1").run_id]
    ran = subprocess.run(words, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.strip() == "False"
