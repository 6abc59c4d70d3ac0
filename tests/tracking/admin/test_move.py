"""A working folder that was moved with its store goes on in that store."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from reglab.tracking import RunTracker, TrackingSettings, open_run, open_sweep, reopen_run, store_gate
from reglab.tracking.admin.find import find_folder
from reglab.tracking.admin.move import adopt
from reglab.tracking.folder import read_identity
from reglab.tracking.run_state import WORKING_FOLDER, read_state
from reglab.tracking.settings import store_uri


@pytest.fixture
def study(template: Path, tmp_path: Path) -> tuple[RunTracker, RunTracker]:
    """A sweep with one job in the working folder ``old one``."""
    old = tmp_path / "old one"
    old.mkdir()
    shutil.copy(template, old / "reglab.db")
    settings = TrackingSettings.from_config({"name": "mlflow", "uri": None, "experiment": "study"}, old)
    parent = open_sweep(settings, name="sweep", folder=old / "runs" / "s", params={}, tags={})
    parent.tag(**{WORKING_FOLDER: old})
    run = open_run(
        settings, name="job", folder=old / "runs" / "s" / "0", config={"a": 1}, params={}, tags={}, parent=parent.run_id
    )
    run.log({"loss": 1.0}, 1)
    run.finish("KILLED")
    parent.finish("KILLED")
    SqlAlchemyStore._engine_map.clear()
    return parent, run


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_runs_go_on_in_the_store_that_was_moved_along(
    how: object, study: tuple[RunTracker, RunTracker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old one", tmp_path / "new"
    assert callable(how)
    how(old, new)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    for _ in range(2):  # once more changes nothing
        adopt(new / "runs" / "s", old, new)
    state = read_state(new / "runs" / "s")
    assert state is not None
    assert state.tags[WORKING_FOLDER] == str(new)
    run = reopen_run(new / "runs" / "s" / "0")
    run.log({"loss": 0.5}, 2)
    (run.folder / "more.txt").write_text("more")
    run.artifact(run.folder / "more.txt")
    run.finish()
    client = MlflowClient(tracking_uri=store_uri(new / "reglab.db"))
    record = client.get_run(run.run_id)
    assert record.info.status == "FINISHED"
    assert record.info.artifact_uri == read_identity(run.folder).artifacts
    assert record.data.tags["reglab.folder"] == str(run.folder)
    assert {each.path for each in client.list_artifacts(run.run_id)} == {"config.yaml", "more.txt"}
    assert client.get_experiment_by_name("study").artifact_location == (new / "mlartifacts").as_uri()
    monkeypatch.chdir(tmp_path)
    assert find_folder(store_uri(new / "reglab.db"), run.run_id) == run.folder
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before  # nothing goes there
    SqlAlchemyStore._engine_map.clear()


def test_a_store_that_stayed_is_used_where_it_is(study: tuple[RunTracker, RunTracker], tmp_path: Path) -> None:
    old, new = tmp_path / "old one", tmp_path / "new"
    (new / "runs").mkdir(parents=True)
    shutil.move(old / "runs" / "s", new / "runs" / "s")
    adopt(new / "runs" / "s", old, new)
    with store_gate.isolated():
        store_gate.name_store(store_uri(old / "reglab.db"))  # as --uri does
        run = reopen_run(new / "runs" / "s" / "0")
        run.finish()
    client = MlflowClient(tracking_uri=store_uri(old / "reglab.db"))
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert client.get_run(run.run_id).data.tags["reglab.folder"] == str(run.folder)
    SqlAlchemyStore._engine_map.clear()


def test_a_store_whose_run_was_recorded_elsewhere_is_left_alone(
    study: tuple[RunTracker, RunTracker], tmp_path: Path
) -> None:
    old, new = tmp_path / "old one", tmp_path / "new"
    shutil.move(old, new)
    adopt(new / "runs" / "s", Path("/"), new)
    client = MlflowClient(tracking_uri=store_uri(new / "reglab.db"))
    assert client.get_experiment_by_name("study").artifact_location == (old / "mlartifacts").as_uri()
    SqlAlchemyStore._engine_map.clear()
