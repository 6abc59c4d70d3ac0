"""A resumed sweep ends runs of dead processes, never one that is still trained."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reglab.sweeps.ledger import _end_dead_run
from reglab.tracking import RunTracker, TrackingSettings, is_running, open_run

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's own


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunTracker]:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    settings = TrackingSettings.from_config({"experiment": "study"}, tmp_path)
    yield open_run(settings, name="job", folder=tmp_path / "0", config={}, params={}, tags={})
    SqlAlchemyStore._get_or_create_engine(settings.uri).dispose()


def status(run: RunTracker) -> str:
    from mlflow import MlflowClient

    return str(MlflowClient(uri(run)).get_run(run.run_id).info.status)


def uri(run: RunTracker) -> str:
    return f"sqlite:///{run.folder.parent}/reglab.db"


def test_a_run_that_somebody_trains_is_left_and_a_dead_one_ended(run: RunTracker) -> None:
    _end_dead_run(uri(run), run.run_id, run.folder)
    assert status(run) == "RUNNING"
    run.log({"loss": 1.0}, 1)
    run.journal.close()
    assert run._lock is not None
    run._lock.release()  # as death does
    assert not is_running(run.folder)
    _end_dead_run(uri(run), run.run_id, run.folder)
    assert status(run) == "KILLED"


def test_a_run_whose_folder_is_gone_is_ended(run: RunTracker) -> None:
    _end_dead_run(uri(run), run.run_id, None)
    assert status(run) == "KILLED"
    run.finish("KILLED")
