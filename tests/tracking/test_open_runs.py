"""Many runs opened at once are the runs that MLflow's client makes one by one."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from reglab.core.errors import UserError
from reglab.tracking import RunSpec, TrackingSettings, finish_runs, open_run, open_runs
from reglab.tracking.folder import read_identity
from reglab.tracking.git import git_tags
from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.create import LOCAL_ID
from tracking.tables import unknown_tables

MANY = {str(number): number for number in range(120)}
SAID = ("config.yaml", "params_long.json", "tags_long.json")


def spec(folder, number, **given):
    """A run with everything that can be odd.

    A key that MLflow refuses, texts too long for it, an empty value.
    """
    arguments = {
        "config": {"seed": number, "data": {"path": "${oc.env:HOME}", "rows": [1, 2.5, None, True]}, "text": "a: b"},
        "params": {"seed": number, "code[0]": "x", "empty": "", "long": "p" * 6_001, "many": MANY},
        "tags": {"reglab.seed": number, "reglab.overrides": "t" * 8_001, "reglab.strength": ""},
        **given,
    }  # fmt: skip
    return RunSpec(f"job {number}", folder / str(number), **arguments)


def contents(client, folder):
    """All that MLflow and the folder say of a run, less what has to differ."""
    identity = read_identity(folder)
    run = client.get_run(identity.run_id)
    info = {key: value for key, value in run.info if key not in ("run_id", "start_time", "end_time", "artifact_uri")}
    root = Path(run.info.artifact_uri.removeprefix("file://"))
    assert identity.artifacts == run.info.artifact_uri
    return {
        "info": info,
        "place": run.info.artifact_uri.replace(identity.run_id, "ID"),
        "params": run.data.params,
        "tags": {key: text for key, text in run.data.tags.items() if key not in ("reglab.folder", "reglab.local_id")},
        "inputs": [each.to_dictionary() for each in run.inputs.dataset_inputs],
        "artifacts": {str(file.relative_to(root)): file.read_text() for file in root.rglob("*") if file.is_file()},
        "folder": {path.name: path.read_text() for path in folder.iterdir() if path.name in SAID},
        "identity": (identity.name, identity.uri, identity.stride, identity.steps),
    }


def test_runs_opened_at_once_equal_runs_opened_one_by_one(settings, store, client, dataset, tmp_path):
    def one_by_one(settings, specs):
        with unknown_tables(store):  # by MLflow's own calls
            return [open_run(settings, **vars(each)) for each in specs]

    ways = {"one by one": one_by_one, "at once": open_runs}
    for name, way in ways.items():
        given = {"dataset": dataset, "parent": "p" * 32, "steps": 1_000}
        trackers = way(settings, [spec(tmp_path / name, number, **given) for number in range(3)])
        assert [client.get_run(tracker.run_id).info.status for tracker in trackers] == ["RUNNING"] * 3
        for tracker in trackers:
            tracker.log({"val/loss": 1.0}, 0)
            tracker.note("**verdict**")
        finish_runs(trackers, ["FINISHED"] * 3)
    for number in range(3):
        alone, together = (contents(client, tmp_path / name / str(number)) for name in ways)
        assert together == alone
        assert len(together["artifacts"]) == 3
        assert len(together["inputs"]) == 3
        assert len(together["params"]) == 124


def test_the_data_set_is_kept_once_and_commit_and_user_are_asked_once(settings, store, dataset, tmp_path):
    git_tags.cache_clear()
    specs = [spec(tmp_path, number, dataset=dataset) for number in range(5)]
    finish_runs(open_runs(settings, specs), ["FINISHED"] * 5)
    with sqlite3.connect(store) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("datasets", "inputs")]
    connection.close()
    assert counts == [(3,), (15,)]
    asked = git_tags.cache_info()
    assert asked.hits + asked.misses == 1


@pytest.mark.parametrize("change", ["ALTER TABLE inputs ADD COLUMN note TEXT", "ALTER TABLE tags ADD COLUMN kind TEXT"])
def test_tables_of_another_version_are_written_by_mlflow_itself(settings, store, client, tmp_path, monkeypatch, change):
    def refuse(*_):
        raise AssertionError("plain SQL on tables that it does not know")

    with sqlite3.connect(store) as connection:
        connection.execute(change)
    connection.close()
    monkeypatch.setattr("reglab.tracking.mlflow.sql.write", refuse)
    trackers = open_runs(settings, [spec(tmp_path, number) for number in range(2)])
    for tracker in trackers:
        tracker.log({"val/loss": 0.5}, 3)
    finish_runs(trackers, ["FINISHED", "FAILED"])
    records = [client.get_run(tracker.run_id) for tracker in trackers]
    assert all(LOCAL_ID in record.data.tags for record in records)  # made by MLflow's own calls
    assert [record.info.status for record in records] == ["FINISHED", "FAILED"]
    assert [record.data.metrics for record in records] == [{"val/loss": 0.5}] * 2


def test_all_runs_are_made_or_none(settings, store, tmp_path, monkeypatch):
    monkeypatch.setattr(sql, "acting", lambda _: None)  # the trigger below stands for a disk without room
    with sqlite3.connect(store) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON tags WHEN NEW.key = 'reglab.last' "
                           "BEGIN SELECT RAISE(ABORT, 'no room'); END")  # fmt: skip
    connection.close()
    specs = [spec(tmp_path, 0), spec(tmp_path, 1, tags={"reglab.last": "1"})]
    with pytest.raises(UserError, match="could not store the runs 'job 0', 'job 1': no room"):
        open_runs(settings, specs)
    with sqlite3.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    connection.close()


def test_a_name_that_mlflow_has_to_decide_on_is_left_to_it(settings, client, tmp_path):
    unnamed = [RunSpec("", tmp_path / str(number), {}, {}, {}) for number in range(2)]
    trackers = open_runs(settings, unnamed)
    finish_runs(trackers, ["FINISHED"] * 2)
    assert all(client.get_run(tracker.run_id).info.run_name for tracker in trackers)


def test_two_runs_in_one_folder_are_refused(settings, tmp_path):
    with pytest.raises(UserError, match=r"2 runs have the same folder .*: give each its own folder"):
        open_runs(settings, [spec(tmp_path, 1), spec(tmp_path / "x" / "..", 1)])


def test_no_runs_are_no_trouble(settings):
    assert open_runs(settings, []) == []
    finish_runs([], [])


_DIRECTLY = """
import sys, threading
from pathlib import Path
from types import SimpleNamespace
from reglab.tracking import TrackingSettings, open_run
folder = Path(sys.argv[1])
settings = TrackingSettings.from_config({"experiment": "study"}, folder)
data = SimpleNamespace(name="digits", digest="0123456789abcdef" * 4, summary={"rows": 100})
said = {"config": {"a": 1}, "params": {"p": 1}, "tags": {"t": 2}}
run = open_run(settings, name="job", folder=folder / "run", dataset=data, **said)
run.log({"loss": 0.5}, 3)
run.artifact(folder / "run" / "config.yaml", "more")
assert run.flush()
run.finish()
print(run.run_id, *sys.modules)
"""


def test_a_run_in_a_known_store_is_made_and_sent_without_importing_mlflow(settings, client, tmp_path):
    client.create_experiment("study", (tmp_path / "kept").as_uri())
    done = subprocess.run([sys.executable, "-c", _DIRECTLY, str(tmp_path)], capture_output=True, text=True, check=True)
    run_id, *modules = done.stdout.split()
    assert not {"mlflow", "sqlalchemy", "pandas", "torch"} & set(modules)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics, run.data.tags["t"]) == ("FINISHED", {"loss": 0.5}, "2")
    assert len(run.inputs.dataset_inputs) == 3
    assert {each.path for each in client.list_artifacts(run_id)} == {"config.yaml", "more"}


def test_what_plain_sql_writes_has_the_names_that_mlflow_knows():
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.utils import mlflow_tags as theirs

    from reglab.tracking.mlflow import sql_create, sql_insert

    assert (sql_insert.RUN_NAME, sql_insert.CONTEXT) == (theirs.MLFLOW_RUN_NAME, theirs.MLFLOW_DATASET_CONTEXT)
    assert (sql_insert.USER, sql_create.PARENT) == (theirs.MLFLOW_USER, theirs.MLFLOW_PARENT_RUN_ID)
    assert CodeDatasetSource({})._get_source_type() == sql_insert.SOURCE


@pytest.mark.parametrize("known", [True, False], ids=["by SQL", "by MLflow"])
def test_other_artifacts_than_the_experiment_has_are_refused(known, tmp_path):
    def open_with(**node):
        settings = TrackingSettings.from_config(node, tmp_path)
        return open_runs(settings, [spec(tmp_path / "runs", len(list(tmp_path.glob("runs/*"))))])

    finish_runs(open_with(), ["FINISHED"])
    with unknown_tables(tmp_path / "reglab.db", unknown=not known):
        with pytest.raises(UserError, match=r"'reglab' keeps its artifacts in .*mlartifacts, .*: leave tracking.artif"):
            open_with(artifacts="elsewhere")
        finish_runs(open_with(artifacts="mlartifacts"), ["FINISHED"])
        finish_runs(open_with(artifacts="elsewhere", experiment="other"), ["FINISHED"])
