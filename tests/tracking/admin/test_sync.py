"""What ``reglab sync`` makes of folders as deaths, absent stores and strangers leave them."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from reglab.cli.sync_clean import sync as command
from reglab.core.errors import UserError
from reglab.tracking import RunSpec, RunTracker, TrackingSettings, last_status, open_runs, reopen_run
from reglab.tracking.admin.sync import SyncResult, sync
from reglab.tracking.folder import read_identity, write_identity
from reglab.tracking.lock import RunLock

Start = Callable[..., RunTracker]
DIE = """
import os, sys
from pathlib import Path
from reglab.tracking import reopen_run
run = reopen_run(Path(sys.argv[1]))
run.log({"loss": 0.5}, 2)
os.kill(os.getpid(), 9)
"""


def synced(*folders: Path, **given: Any) -> tuple[SyncResult, list[str]]:
    said: list[str] = []
    return sync(folders, say=said.append, **given), said


def abandon(run: RunTracker) -> Path:
    """Leave a run as the death of its process does, and return its folder."""
    run.journal.close()
    assert run._lock is not None
    run._lock.release()
    return run.folder


def test_a_run_whose_process_was_killed_is_ended_and_delivered(start: Start, client: Any) -> None:
    run = start(steps=1_000)
    for step in range(0, 1_001, 7):
        run.log({"loss": 1.0}, step)
    run.finish()
    subprocess.run([sys.executable, "-c", DIE, run.folder], check=False)
    assert last_status(run.folder) == "RUNNING"
    result, said = synced(run.folder)
    assert (result.runs, result.complete, last_status(run.folder)) == (1, True, "KILLED")
    assert said[0].startswith(
        f"{run.folder}: ended KILLED, since its process was gone (to resume: reglab resume {run.folder}), "
    )
    record = client.get_run(run.run_id)
    assert record.info.status == "KILLED"
    assert record.data.tags["reglab.message"] == "its process was gone"
    assert {file.path for file in client.list_artifacts(run.run_id)} >= {"metrics.parquet"}
    reopen_run(run.folder).finish()  # it can go on all the same
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_a_run_without_a_store_is_ended_too(tmp_path: Path) -> None:
    (run,) = open_runs(TrackingSettings.from_config({"name": "none"}, tmp_path), [RunSpec("r", tmp_path, {}, {}, {})])
    abandon(run)
    result, said = synced(tmp_path)
    assert said == [
        f"{tmp_path}: ended KILLED, since its process was gone (to resume: reglab resume {tmp_path})",
        "delivered 0 runs, 0 rows",
    ]
    assert (last_status(tmp_path), result.complete) == ("KILLED", True)


def test_a_running_run_is_left_alone(start: Start, client: Any) -> None:
    run = start()
    run.log({"loss": 1.0}, 1)
    result, said = synced(run.folder)
    assert (result.running, said) == (1, ["delivered 0 runs, 0 rows; 1 still running"])
    assert last_status(run.folder) == "RUNNING"
    run.finish()
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_while_the_store_is_away_nothing_is_lost(
    settings: TrackingSettings, store: Path, client: Any, tmp_path: Path
) -> None:
    specs = [RunSpec(f"job {number}", tmp_path / "runs" / str(number), {}, {}, {}) for number in range(3)]
    runs = open_runs(settings, specs)
    store.rename(tmp_path / "away.db")
    for run in runs:
        run.log({"loss": 1.0}, 1)
        abandon(run)
    result, said = synced(tmp_path / "runs")
    assert not result.complete
    assert len(result.refused) == 3
    assert "run the same command again when it is back" in said[0]
    assert said[-1] == "delivered 0 runs, 0 rows; 3 refused, for the reason above"
    (tmp_path / "away.db").rename(store)
    result, said = synced(tmp_path / "runs")
    assert (result.runs, result.rows, result.complete) == (3, 3, True)
    for run in runs:
        assert client.get_run(run.run_id).info.status == "KILLED"
        assert [m.value for m in client.get_metric_history(run.run_id, "loss")] == [1.0]


def test_a_server_that_is_away_is_asked_once_for_all_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = TrackingSettings("offline", "http://127.0.0.1:9", "study", None)
    for run in open_runs(settings, [RunSpec("run", tmp_path / str(number), {}, {}, {}) for number in range(2)]):
        run.finish()
    result, said = synced(tmp_path)
    assert len(said) == 2
    assert "you have not named it. If it is yours, add --uri http://127.0.0.1:9" in said[0]
    result, said = synced(tmp_path, uri=settings.uri)
    assert not result.complete
    assert "refused: cannot reach http://127.0.0.1:9 (connection refused" in said[0]
    assert said[-1] == "delivered 0 runs, 0 rows; 2 refused, for the reason above"
    assert len(said) == 2  # the reason is told once
    assert (tmp_path / "1" / "start.json").exists()


def test_a_run_that_the_store_refuses_does_not_hold_up_others(start: Start, client: Any, tmp_path: Path) -> None:
    gone, other = start("gone"), start("other")
    for run in (gone, other):
        run.log({"loss": 1.0}, 1)
        abandon(run)
    client.delete_run(gone.run_id)
    result, said = synced(tmp_path / "runs")
    assert (result.runs, [*result.refused]) == (1, [gone.folder])
    assert "was deleted in MLflow" in said[0]
    assert client.get_run(other.run_id).info.status == "KILLED"


def test_a_run_is_resumed_while_its_store_is_away(start: Start, store: Path, client: Any, tmp_path: Path) -> None:
    run = start()
    run.log({"loss": 1.0}, 1)
    run.finish("KILLED")
    store.rename(tmp_path / "away.db")
    again = reopen_run(run.folder)
    again.log({"loss": 0.5}, 2)
    assert not again.flush()
    (tmp_path / "away.db").rename(store)
    assert again.flush()
    assert client.get_run(run.run_id).info.status == "RUNNING"
    again.finish()
    assert [m.value for m in client.get_metric_history(run.run_id, "loss")] == [1.0, 0.5]


def test_what_cannot_be_read_is_told_and_the_rest_delivered(start: Start, tmp_path: Path) -> None:
    torn, other = start("a torn one"), start("other")
    for run in (torn, other):
        abandon(run)
    (torn.folder / "run.json").write_text('{"run_id": ')
    result, said = synced(tmp_path / "runs")
    assert (result.runs, [*result.refused]) == (1, [torn.folder])
    assert "run.json cannot be read" in said[0]


@pytest.mark.parametrize("name", ["journal.jsonl", "journal.sent", "journal.sent.new", "metrics.parquet", "run.lock"])
def test_a_link_out_of_a_strangers_folder_is_not_followed(start: Start, tmp_path: Path, name: str) -> None:
    folder = abandon(start())
    (tmp_path / "precious").write_text('{"time": 1, "step": 1, "metrics": {"stolen": 1}}\n')
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "precious")
    before = (tmp_path / "precious").read_bytes()
    result, _ = synced(folder)
    assert "is a link out of the run's folder" in result.refused[folder]
    assert (tmp_path / "precious").read_bytes() == before


def test_a_strangers_artifacts_stay_where_they_are_meant_to_be(
    start: Start, client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither are files read from outside the folder, nor written outside the place that the store names."""
    folder = abandon(start())
    (tmp_path / "secret").write_text("secret")
    (folder / "mine").mkdir()
    (folder / "mine" / "fine.txt").write_text("fine")
    (folder / "trap").mkdir()
    (folder / "trap" / "inner").symlink_to(tmp_path / "secret")
    (folder / "other").mkdir()
    (folder / "other" / "link").symlink_to(tmp_path / "secret")
    claims = [
        ("mine", ""), ("mine/fine.txt", "../../../escaped"), ("mine/fine.txt", str(tmp_path / "escaped")),
        (str(tmp_path / "secret"), ""), ("../../secret", "a"), ("other/link", ""), ("trap", ""),
    ]  # fmt: skip
    with (folder / "journal.jsonl").open("a") as journal:
        for name, place in claims:
            journal.write(json.dumps({"time": 1, "artifact": name, "folder": place}) + "\n")
    identity = replace(read_identity(folder), artifacts=(tmp_path / "elsewhere").as_uri())
    write_identity(folder, identity)
    before = {path for path in tmp_path.rglob("*") if "mlartifacts" not in path.parts and path.parent != folder}
    with caplog.at_level(logging.WARNING):
        result, _ = synced(folder)
    assert result.complete
    assert caplog.text.count("leads out of the run's folder") == len(claims) - 1
    root = Path(client.get_run(identity.run_id).info.artifact_uri.removeprefix("file://"))
    assert [str(path.relative_to(root)) for path in root.rglob("*")] == ["fine.txt"]
    after = {path for path in tmp_path.rglob("*") if "mlartifacts" not in path.parts and path.parent != folder}
    assert after - before <= {root, *root.parents}


def test_folders_behind_links_are_not_searched(start: Start, tmp_path: Path) -> None:
    folder = abandon(start())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(folder)
    with pytest.raises(UserError, match=r"no run below .*mine: give the folder of a run"):
        sync([tmp_path / "mine"])
    with pytest.raises(UserError, match="there is no folder"):
        sync([tmp_path / "absent"])


def test_a_tower_of_folders_is_searched(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 600)
    deep.mkdir(parents=True)
    (run,) = open_runs(TrackingSettings.from_config({"name": "none"}, tmp_path), [RunSpec("r", deep, {}, {}, {})])
    run.finish()
    assert synced(tmp_path)[0].complete


def test_the_command(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no folder runs/ here"):
        command([])
    run = start()
    abandon(run)
    assert command([]) == 0
    assert capsys.readouterr().out.endswith("delivered 1 run, 0 rows\n")
    (run.folder / "run.json").write_text(json.dumps({**asdict(read_identity(run.folder)), "uri": "sqlite:///no.db"}))
    lock = RunLock(run.folder)
    lock.release()
    (run.folder / "journal.sent").unlink()
    assert command([str(run.folder)]) == 1
    assert "1 refused, " in capsys.readouterr().out
    assert os.listdir(tmp_path / "runs") == ["run"]  # noqa: PTH208 - names alone
