"""A run whose creation was not answered is adopted, and one that was made twice is ended."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from reglab.core.errors import UserError
from reglab.tracking import RunTracker, TrackingSettings
from reglab.tracking.admin.sync import sync
from reglab.tracking.mlflow.create import LOCAL_ID, RunCreator

Start = Callable[..., RunTracker]
LOST = requests.ConnectionError("Connection aborted")


@pytest.fixture(autouse=True)
def _as_a_server(settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own client, to which the store is as any other."""
    monkeypatch.setattr("reglab.tracking.mlflow.sql_runs.store_for", lambda settings, specs: None)
    monkeypatch.setattr("reglab.tracking.mlflow.create.direct_store", lambda settings: None)
    monkeypatch.setattr("reglab.tracking.mlflow.create.sqlite_path", lambda uri: None)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to each call that makes a run, the first one first; then nothing."""
    to_come: list[str] = []
    create = MlflowClient.create_run

    def faulty(self: MlflowClient, *arguments: Any, **named: Any) -> Run:
        fault = to_come.pop(0) if to_come else ""
        if fault == "refused":
            raise MlflowException("no such thing")
        made = create(self, *arguments, **named)
        if fault == "lost":
            raise LOST
        return create(self, *arguments, **named) if fault == "repeated" else made

    monkeypatch.setattr(MlflowClient, "create_run", faulty)
    return to_come


def runs(client: MlflowClient) -> list[tuple[str, str, str]]:
    found = client.search_runs(["1"], run_view_type=ViewType.ALL)
    return sorted((run.info.lifecycle_stage, run.info.status, run.info.run_id) for run in found)


@pytest.mark.parametrize("ahead", [True, False])
def test_two_processes_that_make_a_run_at_once_keep_the_same(
    ahead: bool, start: Start, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that has rows already, else that of the first id: none deletes what another one keeps."""
    create = MlflowClient.create_run
    other: list[str] = []

    def raced(self: MlflowClient, *arguments: Any, **named: Any) -> Run:
        made = create(self, *arguments, **named)
        other.append(made.info.run_id)
        if ahead:
            self.log_metric(made.info.run_id, "loss", 1.0)
        return create(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", raced)
    run = start()
    run.finish()
    ((_, status, ghost), alive) = sorted(runs(client), reverse=True)
    assert status == "KILLED"
    assert alive == ("active", "FINISHED", run.run_id)
    assert run.run_id == other[0] if ahead else run.run_id < ghost


@pytest.mark.parametrize("fault", ["", "lost", "repeated"])
def test_one_run_is_left_and_recorded(fault: str, faults: list[str], start: Start, client: MlflowClient) -> None:
    faults.append(fault)
    run = start(params={"lr": 0.1})
    run.log({"loss": 1.0}, 1)
    run.finish()
    *ghosts, alive = sorted(runs(client), reverse=True)
    assert alive == ("active", "FINISHED", run.run_id)
    assert [ghost[:2] for ghost in ghosts] == ([("deleted", "KILLED")] if fault == "repeated" else [])
    record = client.get_run(run.run_id)
    assert (record.data.params, record.data.metrics) == ({"lr": "0.1"}, {"loss": 1.0})


def test_a_refusal_stays_one(faults: list[str], start: Start, client: MlflowClient) -> None:
    faults.append("refused")
    with pytest.raises(UserError, match="no such thing"):
        start()
    assert runs(client) == []


def test_a_death_before_the_answer_is_found_by_sync(
    faults: list[str], start: Start, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    faults.append("lost")
    with monkeypatch.context() as patch:
        patch.setattr(RunCreator, "_only", lambda self, start: None)
        with pytest.raises(UserError, match="could not store"):
            start()
    ((_, status, ghost),) = runs(client)
    assert status == "RUNNING"
    assert sync([tmp_path / "runs"], say=lambda text: None).complete
    assert runs(client) == [("active", "KILLED", ghost)]
    assert LOCAL_ID in client.get_run(ghost).data.tags
