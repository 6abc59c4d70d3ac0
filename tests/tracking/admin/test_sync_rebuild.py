"""``reglab sync --rebuild`` makes a store again from the folders of its runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from reglab.cli.sync_clean import sync as command
from reglab.tracking import RunTracker, TrackingSettings, open_run, open_sweep
from reglab.tracking.admin.sync import sync
from reglab.tracking.folder import CREATED, START, make_pending, read_identity, write_identity
from reglab.tracking.mlflow.amend import amend
from reglab.tracking.mlflow.late_sink import LateSink
from reglab.tracking.mlflow.read import get_run

Start = Callable[..., RunTracker]


def content(client: MlflowClient) -> dict[str, Any]:
    """What a user sees of each run."""
    found = {}
    for run in client.search_runs([each.experiment_id for each in client.search_experiments()]):
        rows = {
            key: [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        inputs = sorted((each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs)
        info = (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time, run.info.artifact_uri)
        experiment = client.get_experiment(run.info.experiment_id).name
        artifacts = sorted(each.path for each in client.list_artifacts(run.info.run_id))
        found[run.info.run_id] = (info, experiment, run.data.params, run.data.tags, rows, inputs, artifacts)
    return found


@pytest.fixture
def study(settings: TrackingSettings, tmp_path: Path, dataset: Any) -> dict[str, RunTracker]:
    parent = open_sweep(settings, name="sweep", folder=tmp_path / "runs" / "s", params={"a": 1}, tags={})
    runs = {}
    for number, status in enumerate(("FINISHED", "FAILED")):
        run = open_run(
            settings, name=f"job {number}", folder=tmp_path / "runs" / "s" / str(number), config={"seed": number},
            params={"lr": 0.1}, tags={"reglab.job": number}, dataset=dataset, parent=parent.run_id, steps=5_000,
        )  # fmt: skip
        for step in range(0, 5_001, 10):
            run.log({"loss": 1 / (step + 1)}, step)
        run.tag(extra="yes")
        run.finish(status)
        runs[str(number)] = run
    parent.finish()
    return {"parent": parent, **runs}


def lose(store: Path, settings: TrackingSettings) -> None:
    SqlAlchemyStore._get_or_create_engine(settings.uri).dispose()
    SqlAlchemyStore._engine_map.clear()
    for path in store.parent.glob("reglab.db*"):
        path.unlink()


def test_a_deleted_store_is_made_again_whole(
    study: dict[str, RunTracker], settings: TrackingSettings, store: Path, client: MlflowClient, tmp_path: Path
) -> None:
    amend(get_run(settings.uri, study["0"].run_id), {"test/loss": 0.25}, 5_000, {"reglab.test_touched": "true"})
    before = content(client)
    assert len(before) == 3
    assert before[study["0"].run_id][4]["test/loss"][0][2] == 0.25
    lose(store, settings)
    result = sync([tmp_path / "runs"], say=lambda text: None, rebuild=True)
    assert (result.complete, result.runs) == (True, 3)
    assert content(MlflowClient(tracking_uri=settings.uri)) == before
    assert sync([tmp_path / "runs"], say=lambda text: None, rebuild=True).runs == 0


def test_one_that_was_interrupted_is_gone_on_with(
    study: dict[str, RunTracker],
    settings: TrackingSettings,
    store: Path,
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, folder = content(client), study["0"].folder
    lose(store, settings)

    def die(self: LateSink, payloads: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LateSink, "send", die)
        with pytest.raises(KeyboardInterrupt):
            sync([tmp_path / "runs"], say=lambda text: None, rebuild=True)
    make_pending(folder)  # as a death in the middle of the next leaves it
    assert sync([tmp_path / "runs"], say=lambda text: None, rebuild=True).complete
    assert content(MlflowClient(tracking_uri=settings.uri)) == before
    assert (folder / CREATED).exists()
    assert not (folder / START).exists()


def test_an_emptied_experiment_gets_its_runs_back_and_a_deleted_run_stays_deleted(
    study: dict[str, RunTracker], client: MlflowClient, tmp_path: Path
) -> None:
    client.delete_run(study["1"].run_id)
    assert sync([tmp_path / "runs"], say=lambda text: None, rebuild=True).runs == 0
    assert client.get_run(study["1"].run_id).info.lifecycle_stage == "deleted"


def test_without_the_option_nothing_is_made_and_the_option_is_named(
    study: dict[str, RunTracker],
    settings: TrackingSettings,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lose(store, settings)
    study["0"].folder.joinpath("journal.sent").unlink()
    monkeypatch.chdir(tmp_path)
    assert command([]) == 1
    assert "--rebuild" in capsys.readouterr().out
    assert not store.exists()
    assert command(["--rebuild"]) == 0


def test_a_run_of_an_earlier_version_is_named(
    study: dict[str, RunTracker], settings: TrackingSettings, store: Path, tmp_path: Path
) -> None:
    lose(store, settings)
    (study["0"].folder / CREATED).unlink()
    result = sync([tmp_path / "runs"], say=lambda text: None, rebuild=True)
    assert [*result.refused] == [study["0"].folder]
    assert "earlier version" in result.refused[study["0"].folder]
    assert result.runs == 2


def test_a_child_finds_its_parent_by_an_id_that_a_lost_server_had_given(
    study: dict[str, RunTracker], settings: TrackingSettings, store: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    parent, child = study["parent"].folder, study["1"].folder
    lose(store, settings)
    assert sync([parent], say=lambda text: None, rebuild=True).refused == {}
    made = read_identity(parent)
    write_identity(parent, replace(made, former=["b" * 32]))
    start = json.loads((child / CREATED).read_text())
    (child / CREATED).write_text(json.dumps({**start, "parent": "b" * 32}))
    assert child not in sync([tmp_path / "runs"], say=lambda text: None, rebuild=True).refused
    tags = MlflowClient(tracking_uri=settings.uri).get_run(read_identity(child).run_id).data.tags
    assert tags["mlflow.parentRunId"] == made.run_id
