"""Runs recorded without a store, brought to one later: the same runs as if it had been there."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reglab.core.errors import UserError
from reglab.tracking import (
    RunSpec,
    TrackingSettings,
    finish_runs,
    last_status,
    open_runs,
    open_sweep,
    reopen_run,
    send,
)
from reglab.tracking.admin.sync import sync
from reglab.tracking.folder import read_identity
from tracking.tables import unknown_tables


def silent(text: str) -> None: ...


@pytest.fixture
def offline(settings: TrackingSettings) -> TrackingSettings:
    return replace(settings, backend="offline")


def record(settings: TrackingSettings, folder: Path, dataset: SimpleNamespace) -> list[Path]:
    """Record a sweep of two runs, the second of which started from the first, and return their folders."""
    sweep = open_sweep(settings, name="sweep", folder=folder, params={"seeds": [0, 1]}, tags={"a": "b"})
    folders = [folder, folder / "0", folder / "1"]
    start = ""
    for number in range(2):
        given: dict[str, Any] = {"params": {"seed": number, "sweep.parent": sweep.run_id, "long": "p" * 6_001}}
        tags = {"reglab.sweep": sweep.run_id, "reglab.start": start or "initial"}
        spec = RunSpec(
            f"job {number}", folders[1 + number], {"a": 1}, tags=tags, dataset=dataset, parent=sweep.run_id, **given
        )
        (run,) = open_runs(settings, [replace(spec, steps=1_000)])
        for step in range(1_001):
            run.log({"val/loss": 1 / (1 + step)}, step)
        run.note("**verdict**")
        run.finish("FINISHED" if number else "FAILED")
        start = run.run_id
    sweep.finish()
    return folders


def contents(client: Any, folder: Path) -> dict[str, Any]:
    """All that MLflow says of a run.

    Ids by the names of their runs, and less when and where it was.
    """
    identity = read_identity(folder)
    run = client.get_run(identity.run_id)
    assert identity.artifacts == run.info.artifact_uri
    runs = client.search_runs([run.info.experiment_id])
    names = {each.info.run_id: each.info.run_name for each in runs}
    root = Path(run.info.artifact_uri.removeprefix("file://"))
    texts = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    texts.pop("metrics.parquet", None)  # with the times of its rows
    passed = ("reglab.folder", "reglab.local_id")
    return {
        "info": (run.info.run_name, run.info.status, run.info.user_id),
        "params": {key: names.get(text, text) for key, text in run.data.params.items()},
        "tags": {key: names.get(text, text) for key, text in run.data.tags.items() if key not in passed},
        "inputs": [each.to_dictionary() for each in run.inputs.dataset_inputs],
        "artifacts": texts,
        "series": [(m.step, m.value) for m in client.get_metric_history(identity.run_id, "val/loss")],
    }


@pytest.mark.parametrize("known", [True, False])
def test_synced_runs_are_the_runs_that_an_online_sweep_makes(
    settings: TrackingSettings,
    offline: TrackingSettings,
    store: Path,
    client: Any,
    dataset: SimpleNamespace,
    tmp_path: Path,
    known: bool,
) -> None:
    there = [contents(client, folder) for folder in record(settings, tmp_path / "online", dataset)]
    folders = record(offline, tmp_path / "offline", dataset)
    online = {run.info.run_id for run in client.search_runs([client.get_experiment_by_name("study").experiment_id])}
    assert len(online) == 3  # nothing was sent
    said: list[str] = []
    with unknown_tables(store, not known):
        result = sync([tmp_path / "offline"], say=said.append)
    rows = sum(len(each["series"]) for each in there)
    assert (result.runs, result.rows, result.complete) == (3, rows, True)
    assert said[-1] == f"delivered 3 runs, {rows:,} rows"
    assert [contents(client, folder) for folder in folders] == there
    assert len(there[1]["params"]["long"]) < 100
    assert {"config.yaml", "params_long.json"} <= {*there[1]["artifacts"]}
    assert there[1]["tags"]["mlflow.parentRunId"] == "sweep"
    again: list[str] = []
    assert sync([tmp_path / "offline"], say=again.append).runs == 0  # and nothing is left
    assert again == ["delivered 0 runs, 0 rows"]


def test_nothing_of_a_store_is_needed_or_imported(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from reglab.tracking import TrackingSettings, open_run\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "settings = TrackingSettings.from_config({'name': 'offline', 'uri': 'http://127.0.0.1:9'}, folder)\n"
        "run = open_run(settings, name='run', folder=folder, config={'a': 1}, params={'b': 2}, tags={}, steps=9)\n"
        "run.log({'loss': 1.0}, 1); run.finish()\n"
        "print([name for name in ('mlflow', 'torch', 'pytorch_lightning') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"
    assert json.loads((tmp_path / "start.json").read_text())["params"] == {"b": "2"}


def test_a_password_of_the_store_is_not_kept(tmp_path: Path) -> None:
    settings = TrackingSettings("offline", "http://me:hunter2hunter2@127.0.0.1:9", "study", None)
    finish_runs(open_runs(settings, [RunSpec("run", tmp_path, {}, {}, {})]), ["FINISHED"])
    assert read_identity(tmp_path).uri == "http://127.0.0.1:9"
    assert not any(b"hunter2" in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_an_offline_run_goes_on_offline_before_and_after_it_was_sent(
    offline: TrackingSettings, client: Any, tmp_path: Path
) -> None:
    (run,) = open_runs(offline, [RunSpec("run", tmp_path / "run", {}, {}, {})])
    run.log({"loss": 1.0}, 1)
    assert not run.flush()
    run.finish("KILLED")
    assert last_status(tmp_path / "run") == "KILLED"
    with pytest.raises(UserError, match="is not in its store yet: reglab sync"):
        send(tmp_path / "run")
    for step in (2, 3):
        again = reopen_run(tmp_path / "run")
        again.log({"loss": 1.0, "other": float(step)}, step)
        again.log({"loss": 1.0}, 1)
        assert not again.flush()
        again.finish()
        assert sync([tmp_path], say=silent).complete
        history = client.get_metric_history(read_identity(tmp_path / "run").run_id, "loss")
        assert [m.step for m in history] == [1, *range(2, step + 1)]
    assert last_status(tmp_path / "run") == "FINISHED"


def test_sync_to_another_store(
    offline: TrackingSettings, template: Path, tmp_path: Path, dataset: SimpleNamespace
) -> None:
    from mlflow import MlflowClient
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    record(offline, tmp_path / "runs", dataset)
    (tmp_path / "other").mkdir()
    shutil.copy(template, tmp_path / "other" / "store.db")
    uri = f"sqlite:///{tmp_path}/other/store.db"
    assert sync([tmp_path / "runs"], uri=uri, say=silent).complete
    identity = read_identity(tmp_path / "runs" / "0")
    assert identity.uri == uri
    assert MlflowClient(uri).get_run(identity.run_id).info.artifact_uri.startswith((tmp_path / "other").as_uri())
    assert sync([tmp_path / "runs"], say=silent).runs == 0  # it stays there
    SqlAlchemyStore._get_or_create_engine(uri).dispose()


def test_a_run_waits_for_its_sweep(
    offline: TrackingSettings, client: Any, tmp_path: Path, start: Callable[..., Any]
) -> None:
    sweep = open_sweep(offline, name="sweep", folder=tmp_path / "sweep", params={}, tags={})
    (job,) = open_runs(offline, [RunSpec("job", tmp_path / "sweep" / "0", {}, {}, {}, parent=sweep.run_id)])
    job.finish()
    said: list[str] = []
    result = sync([tmp_path / "sweep"], say=said.append)
    assert (result.running, result.runs, result.complete) == (2, 0, True)
    assert said == ["delivered 0 runs, 0 rows; 2 still running"]
    sweep.finish()
    (tmp_path / "sweep" / "0").rename(tmp_path / "alone")
    result = sync([tmp_path / "alone"], say=said.append)
    assert f"its sweep {sweep.run_id} is not in" in said[-2]
    assert "give the sweep's folder, too" in said[-2]
    assert not result.complete
    assert sync([tmp_path / "sweep", tmp_path / "alone"], say=silent).runs == 2
    child = client.get_run(read_identity(tmp_path / "alone").run_id)
    assert child.data.tags["mlflow.parentRunId"] == read_identity(tmp_path / "sweep").run_id


@pytest.mark.parametrize("key, value", [("run_id", "../../../x"), ("parent", "x' OR '1"), ("run_id", 3), ("extra", "")])
def test_a_start_that_a_stranger_made_up_is_refused(
    offline: TrackingSettings, tmp_path: Path, key: str, value: object
) -> None:
    (run,) = open_runs(offline, [RunSpec("run", tmp_path / "run", {}, {}, {})])
    run.finish()
    path = run.folder / "start.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    result = sync([run.folder], say=silent)
    assert "start.json cannot be read" in result.refused[run.folder]
