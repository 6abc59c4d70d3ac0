"""Runs and sweeps on a real MLflow server with PostgreSQL and users.

What happens when it refuses somebody or dies.
"""

import json
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from scripts.chaos.fresh_store import PROCESSES, STEPS, processes, record, together
from scripts.chaos.mlflow_server import MlflowServer

from reglab.cli.command import main
from reglab.tracking import RunTracker, send
from reglab.tracking.journal import Journal
from server.postgres import Cluster
from server.users import PASSWORDS, READER, STRANGER, STUDY, WRITER, administer, look

SMALL = (
    *("data=wine", "model.width=6", "trainer.max_epochs=3", "trainer.accelerator=cpu"),
    f"tracking.experiment={STUDY}",
)
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@pytest.fixture
def reglab(server: MlflowServer, login: Callable[..., None], tmp_path: Path) -> Callable[..., int]:
    """Return a function that runs the command line on the server, in a folder of the test's own."""
    login(WRITER)

    def run(*words: str) -> int:
        with chdir(tmp_path):
            one_worker = ["hydra.launcher.workers=1"] if "-m" in words else []
            return main([*words, *SMALL, *one_worker, f"tracking.uri={server.uri}"])

    return run


def runs_of(server: MlflowServer, where: str = "") -> list[Any]:
    experiment = look(server, "experiments/get-by-name", experiment_name=STUDY)["experiment"]["experiment_id"]
    found = administer(server, "runs/search", experiment_ids=[experiment], filter=where, max_results=1_000)
    return list(found.get("runs", []))


def tags(run: Any) -> dict[str, str]:
    return {each["key"]: each["value"] for each in run["data"]["tags"]}


def files(server: MlflowServer, run_id: str, folder: str = "") -> dict[str, int]:
    found = look(server, "artifacts/list", run_id=run_id, path=folder).get("files", [])
    return {each["path"]: int(each.get("file_size", 0)) for each in found}


def journal(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of each metric in a run's journal, by step, as the database returns them."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (folder / "journal.jsonl").read_text().splitlines():
        content = json.loads(line)
        for key, value in content.get("metrics", {}).items():
            found.setdefault(key, []).append((content["step"], value))
    assert len(found) > 20
    return {key: sorted(points) for key, points in found.items()}


def test_a_run_is_recorded_whole(server, cluster, reglab, tmp_path):
    assert reglab("train", "optimizer.lr=0.0123") == 0
    (run,) = runs_of(server, "params.`optimizer.lr` = '0.0123'")
    run_id = run["info"]["run_id"]
    (identity,) = tmp_path.rglob("run.json")
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")
    assert tags(run)["reglab.data_digest"]
    data = {each["dataset"]["name"] for each in run["inputs"]["dataset_inputs"]}
    assert data == {"wine.train", "wine.val", "wine.test"}
    assert cluster.rows(run_id) == journal(identity.parent)
    assert "config.yaml" in files(server, run_id)
    for path, size in files(server, run_id, "checkpoints").items():
        assert size == (identity.parent / path).stat().st_size > 0
    assert {"checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= set(files(server, run_id, "checkpoints"))


def test_a_fused_sweep_has_its_runs_and_its_report(server, reglab):
    blocks = 'sweep.blocks=[{regularizer:[l2],regularizer.l2.strength:"1e-3,1e-2,1e-1"}]'
    launcher = ("hydra/launcher=fused", "hydra.launcher.always=true")
    assert reglab("train", "-m", blocks, "sweep.seeds=2", "name=fused on a server", *launcher) == 0
    (parent,) = runs_of(server, "tags.`reglab.kind` = 'sweep'")
    children = runs_of(server, f"tags.`mlflow.parentRunId` = '{parent['info']['run_id']}'")
    assert [run["info"]["status"] for run in (parent, *children)] == ["FINISHED"] * 7
    assert {"reglab.fused"} <= set.intersection(*(set(tags(run)) for run in children))
    assert files(server, parent["info"]["run_id"])["report.html"] > 10_000


@pytest.mark.parametrize(
    "name, password, said",
    [
        (WRITER, "wrong-password", ["user 'writer'", "MLFLOW_TRACKING_PASSWORD"]),
        (READER, None, ["user 'reader'", "EDIT"]),
        (STRANGER, None, ["user 'stranger'", "EDIT"]),
    ],
)
def test_who_may_not_write_is_told_so_at_once(server, reglab, login, capsys, name, password, said):
    login(name, password)
    before = len(runs_of(server))
    assert reglab("train") == 2
    output = "".join(capsys.readouterr())
    assert all(each in output for each in said), output
    assert "Traceback" not in output
    assert (password or PASSWORDS[name]) not in output
    assert len(output.splitlines()) == 1
    assert len(runs_of(server)) == before


def test_nobody_is_told_to_log_in(reglab, monkeypatch, capsys):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name)
    assert reglab("train") == 2
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in capsys.readouterr().err


def log_some(tracker: RunTracker, steps: range) -> None:
    for step in steps:
        tracker.log({"loss": 1 / (1 + step), "step": step}, step)


def is_whole(server: MlflowServer, cluster: Cluster, run_id: str, steps: range) -> bool:
    """Return whether the server has each row once, and the end of the run."""
    ended = look(server, "runs/get", run_id=run_id)["run"]["info"]["status"] == "FINISHED"
    wanted = {"loss": [(step, 1 / (1 + step)) for step in steps], "step": [(step, float(step)) for step in steps]}
    return ended and cluster.rows(run_id) == wanted


def test_a_server_that_dies_and_comes_back_has_every_row_once(server, cluster, start, monkeypatch):
    monkeypatch.setenv(RETRIES, "0")  # MLflow waits between its own; the journal sends again anyway
    tracker = start("killed", config={})
    log_some(tracker, range(50))
    assert tracker.flush()
    server.kill()
    try:
        log_some(tracker, range(50, 100))
        made = tracker.folder / "made while away.txt"
        made.write_text("kept")
        tracker.artifact(made)
        tracker.tag(away="yes")
        assert not tracker.flush()
    finally:
        server.start()
    log_some(tracker, range(100, 150))
    tracker.finish()
    assert is_whole(server, cluster, tracker.run_id, range(150))
    assert files(server, tracker.run_id) == {"made while away.txt": 4}
    assert tags(look(server, "runs/get", run_id=tracker.run_id)["run"])["away"] == "yes"


def test_training_ends_while_the_server_is_dead_and_the_rest_is_sent_later(
    server, cluster, reglab, monkeypatch, tmp_path
):
    monkeypatch.setenv(RETRIES, "0")
    append_row = Journal.append_row

    def append_and_kill(journal: Journal, layout: Any, *row: Any) -> None:
        append_row(journal, layout, *row)
        if any(key.startswith("gap/") for key in layout.keys):  # after the untrained model was measured
            server.kill()

    monkeypatch.setattr(Journal, "append_row", append_and_kill)
    try:
        assert reglab("train", "optimizer.lr=0.0321") == 0
    finally:
        server.start()
    (run,) = runs_of(server, "params.`optimizer.lr` = '0.0321'")
    assert run["info"]["status"] == "RUNNING"
    (identity,) = tmp_path.rglob("run.json")
    assert send(identity.parent)
    assert look(server, "runs/get", run_id=run["info"]["run_id"])["run"]["info"]["status"] == "FINISHED"
    assert cluster.rows(run["info"]["run_id"]) == journal(identity.parent)


def test_a_password_that_stops_working_in_mid_run_loses_nothing(server, cluster, start, login, caplog):
    tracker = start("locked out")
    log_some(tracker, range(10))
    login(WRITER, "wrong-password")
    assert not tracker.flush()
    assert "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in caplog.text
    assert "wrong-password" not in caplog.text
    log_some(tracker, range(10, 20))
    login(WRITER)
    tracker.finish()
    assert is_whole(server, cluster, tracker.run_id, range(20))


def test_eight_processes_at_once_record_eight_whole_runs(server, cluster, settings, tmp_path):
    with together(processes()) as pool:
        found = list(pool.map(record, [settings] * PROCESSES, [tmp_path / str(n) for n in range(PROCESSES)]))
    assert len(set(found)) == PROCESSES
    assert all(is_whole(server, cluster, run_id, range(STEPS)) for run_id in found)
