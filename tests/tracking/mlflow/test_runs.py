import json
import logging
import math
import subprocess
import time
from pathlib import Path

import mlflow.data
import pytest
import yaml

from reglab.tracking import open_sweep, reopen_run, send
from tracking.tables import unknown_tables


def artifacts(record):
    return Path(record.info.artifact_uri.removeprefix("file://"))


def test_a_run_holds_params_tags_config_and_note(start, client, tmp_path, monkeypatch):
    monkeypatch.setenv("PASSWORD", "hunter2")
    monkeypatch.chdir(tmp_path)
    many = {f"key{number}": number for number in range(250)}
    before = time.time_ns() // 1_000_000
    tracker = start(
        "solo",
        config={"data": {"path": "${oc.env:PASSWORD}"}},
        params={"optimizer": {"lr": 0.1}, "many": many, "code[0]": "x"},
        tags={"reglab.seed": 3, "reglab.strength": ""},
    )
    assert client.get_run(tracker.run_id).info.status == "RUNNING"
    tracker.note("**verdict**: none")
    tracker.finish()
    record = client.get_run(tracker.run_id)
    assert (record.info.run_name, record.info.status) == ("solo", "FINISHED")
    assert before <= record.info.start_time <= record.info.end_time
    assert record.data.params == {"optimizer.lr": "0.1", "code-5b-0-5d-": "x"} | {
        f"many.{key}": str(value) for key, value in many.items()
    }
    assert record.data.tags["reglab.seed"] == "3"
    assert record.data.tags["mlflow.note.content"] == "**verdict**: none"
    stored = (artifacts(record) / "config.yaml").read_text()
    assert yaml.safe_load(stored) == {"data": {"path": "${oc.env:PASSWORD}"}}
    assert not (tmp_path / "mlruns").exists()


def test_nothing_long_is_cut(start, client):
    text, tag = "p" * 6_001, "t" * 8_001
    tracker = start(params={"long": text, "fits": "q" * 6_000}, tags={"reglab.overrides": tag})
    tracker.finish()
    record = client.get_run(tracker.run_id)
    assert record.data.params == {
        "long": "6001 characters: see the artifact params_long.json",
        "fits": "q" * 6_000,
    }
    assert json.loads((artifacts(record) / "params_long.json").read_text()) == {"long": text}
    assert json.loads((artifacts(record) / "tags_long.json").read_text()) == {"reglab.overrides": tag}


def test_the_data_set_is_an_input_with_its_digest(start, client, dataset):
    tracker = start(dataset=dataset)
    tracker.finish()
    inputs = client.get_run(tracker.run_id).inputs.dataset_inputs
    assert {(i.dataset.name, i.tags[0].key, i.tags[0].value) for i in inputs} == {
        (f"digits.{part}", "mlflow.data.context", part) for part in ("train", "val", "test")
    }
    assert {i.dataset.digest for i in inputs} == {dataset.digest[:36]}
    assert json.loads(inputs[0].dataset.profile) == dataset.summary
    assert mlflow.data.get_source(inputs[0].dataset).to_dict()["tags"]["reglab.data_digest"] == dataset.digest
    assert client.get_run(tracker.run_id).data.tags["reglab.data_digest"] == dataset.digest


def test_the_commit_of_the_working_folder_is_a_tag(start, client, tmp_path, monkeypatch):
    def git(*words):
        named = ("-c", "user.name=me", "-c", "user.email=me@host")
        done = subprocess.run(["git", *named, *words], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    folder = tmp_path / "checkout"
    folder.mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    monkeypatch.chdir(folder)
    tracker = start()
    tracker.finish()
    assert client.get_run(tracker.run_id).data.tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD")


def test_runs_of_a_sweep_are_its_children(settings, start, client, tmp_path):
    sweep = open_sweep(settings, name="sweep", folder=tmp_path / "sweep", params={"seeds": [0, 1]}, tags={"a": "b"})
    child = start("child", parent=sweep.run_id)
    child.finish("FAILED")
    sweep.finish("KILLED")
    parent, record = client.get_run(sweep.run_id), client.get_run(child.run_id)
    assert record.data.tags["mlflow.parentRunId"] == sweep.run_id
    assert (record.info.status, parent.info.status) == ("FAILED", "KILLED")
    assert parent.data.params == {"seeds": "[0, 1]"}
    assert parent.data.tags["reglab.kind"] == "sweep"


@pytest.mark.parametrize("fast", [True, False])
def test_metrics_arrive_by_sql_and_by_calls_alike(start, client, store, fast):
    with unknown_tables(store, not fast):
        tracker = start()
        for step in range(30):
            tracker.log({"w[0]": step / 3, **{f"weights/{key}": key * step for key in range(50)}}, step)
        tracker.log({"odd": math.nan}, 0)
        tracker.log({"odd": math.inf}, 1)
        tracker.summary({"val/loss": 0.25})
        tracker.finish()
    assert [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, "w-5b-0-5d-")] == [
        (step, step / 3) for step in range(30)
    ]
    record = client.get_run(tracker.run_id)
    assert record.data.metrics["weights/49"] == 49 * 29
    assert record.data.metrics["final/val/loss"] == 0.25
    assert len(record.data.metrics) == 53
    assert math.isnan(client.get_metric_history(tracker.run_id, "odd")[0].value)


def test_times_are_those_of_recording(start, client):
    tracker = start()
    tracker.log({"loss": 1.0}, step=1)
    (row,) = tracker.journal.rows()
    tracker.finish()
    assert client.get_metric_history(tracker.run_id, "loss")[0].timestamp == row.timestamp


def test_checkpoints_and_folders_become_artifacts_and_a_vanished_one_is_said(start, client, caplog):
    tracker = start()
    checkpoints = tracker.folder / "checkpoints"
    checkpoints.mkdir()
    for name in ("best.ckpt", "last.ckpt", "gone.ckpt"):
        (checkpoints / name).write_text(name)
        tracker.artifact(checkpoints / name, "checkpoints")
    tracker.artifact(checkpoints, "all")
    (checkpoints / "gone.ckpt").unlink()
    with caplog.at_level(logging.WARNING):
        tracker.finish()
    assert "gone.ckpt" in caplog.text
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    found = {f.path for folder in ("checkpoints", "all") for f in client.list_artifacts(tracker.run_id, folder)}
    assert found == {f"{folder}/{name}.ckpt" for folder in ("checkpoints", "all") for name in ("best", "last")}


def test_a_store_that_fails_in_training_gets_all_later_with_the_right_end(start, client, store, caplog):
    tracker = start()
    tracker.tag(seen="yes")
    assert tracker.flush()
    store.rename(store.with_name("away.db"))
    tracker.log({"loss": 1.0}, step=1)
    with caplog.at_level(logging.WARNING):
        assert not tracker.flush()
        tracker.log({"loss": 0.5}, step=2)
        tracker.finish("FAILED")
    assert "could not store the run" in caplog.text
    store.with_name("away.db").rename(store)
    assert client.get_run(tracker.run_id).info.status == "RUNNING"
    end = time.time_ns() // 1_000_000
    assert send(tracker.folder)
    assert send(tracker.folder)
    record = client.get_run(tracker.run_id)
    assert record.info.status == "FAILED"
    assert record.info.end_time <= end
    assert [m.value for m in client.get_metric_history(tracker.run_id, "loss")] == [1.0, 0.5]


def test_a_run_goes_on_as_running_and_a_dead_one_can_be_ended(start, client):
    tracker = start()
    tracker.log({"loss": 1.0}, step=1)
    tracker.finish("KILLED")
    again = reopen_run(tracker.folder)
    assert again.flush()
    assert client.get_run(tracker.run_id).info.status == "RUNNING"
    again.log({"loss": 1.0}, step=1)
    again.log({"loss": 0.5}, step=2)
    again.finish("FAILED")
    assert client.get_run(tracker.run_id).info.status == "FAILED"
    assert [m.value for m in client.get_metric_history(tracker.run_id, "loss")] == [1.0, 0.5]
