import math
from dataclasses import replace

import pytest

from reglab.core.errors import UserError
from reglab.tracking import RunSpec, open_runs, open_sweep
from reglab.tracking.mlflow import read
from tracking.tables import unknown_tables


@pytest.fixture
def sweep(settings, start, tmp_path):
    """A sweep of three finished runs, beside a run that is not its."""
    parent = open_sweep(settings, name="sweep", folder=tmp_path / "sweep", params={}, tags={})
    start("alone").finish()
    for seed in range(3):
        run = start(f"seed-{seed}", parent=parent.run_id, params={"seed": seed}, tags={"reglab.seed": seed})
        for step in range(4):
            run.log({"val/loss": seed + 1 / (step + 1), "blow[up]": math.inf if step else math.nan}, step)
        (run.folder / "last.ckpt").write_text("weights")
        run.artifact(run.folder / "last.ckpt", "checkpoints")
        run.finish()
    parent.finish()
    return parent


def test_a_sweep_gives_its_runs_oldest_first(settings, sweep):
    records = read.sweep_runs(settings.uri, sweep.run_id)
    assert [record.name for record in records] == ["seed-0", "seed-1", "seed-2"]
    assert [record.params["seed"] for record in records] == ["0", "1", "2"]
    assert [record.tags["reglab.seed"] for record in records] == ["0", "1", "2"]
    assert records[2].metrics == {"val/loss": 2.25, "blow-5b-up-5d-": math.inf}
    assert {record.status for record in records} == {"FINISHED"}
    assert read.get_run(settings.uri, records[1].run_id) == records[1]


@pytest.mark.parametrize("fast", [True, False])
def test_histories_come_by_step_under_the_names_that_were_logged(settings, store, sweep, fast):
    record = read.sweep_runs(settings.uri, sweep.run_id)[1]
    with unknown_tables(store, not fast):
        found = read.history(settings.uri, record.run_id, ["val/loss", "blow[up]", "absent"])
    assert found["val/loss"] == [(step, 1 + 1 / (step + 1)) for step in range(4)]
    assert math.isnan(found["blow[up]"][0][1])
    assert found["blow[up]"][1:] == [(step, math.inf) for step in (1, 2, 3)]
    assert found["absent"] == []


def test_an_artifact_is_a_path_and_a_misspelt_one_names_the_nearest(settings, sweep):
    record = read.sweep_runs(settings.uri, sweep.run_id)[0]
    assert read.artifact_path(record, "checkpoints/last.ckpt").read_text() == "weights"
    with pytest.raises(UserError, match=r"did you mean 'checkpoints/last\.ckpt'"):
        read.artifact_path(record, "checkpoints/lst.ckpt")


def test_a_run_is_found_by_id_name_or_folder(settings, sweep, start, tmp_path):
    record = read.find_run(settings.uri, "seed-1")
    assert record.name == "seed-1"
    assert read.find_run(settings.uri, record.run_id) == record
    assert read.find_run("sqlite:////not/this.db", tmp_path / "runs" / "seed-1") == record
    newer = start("seed-1", params={"seed": 9})
    newer.finish()
    assert read.find_run(settings.uri, "seed-1").run_id == newer.run_id
    with pytest.raises(UserError, match="did you mean 'seed-1'"):
        read.find_run(settings.uri, "sed-1")
    assert read.find_run(settings.uri, record.run_id[:6]) == record
    with pytest.raises(UserError, match="no run"):
        read.find_run(settings.uri, record.run_id[:5])


def test_a_server_that_is_away_is_not_a_run_that_is_not_there(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"cannot read the run .*: connection refused"):
        read.get_run("http://127.0.0.1:9", "f" * 32)


def test_a_run_that_is_not_in_its_store_yet_is_to_be_sent_first(settings, tmp_path):
    (run,) = open_runs(replace(settings, backend="offline"), [RunSpec("run", tmp_path / "runs" / "1", {}, {}, {})])
    run.finish()
    with pytest.raises(UserError, match=f"is not in its store yet: reglab sync {run.folder}"):
        read.find_run(settings.uri, run.folder)


def test_what_is_not_there_is_an_error_with_the_next_step(settings, tmp_path):
    with pytest.raises(UserError, match=r"no run 'f+' in .*another store\?"):
        read.get_run(settings.uri, "f" * 32)
    with pytest.raises(UserError, match="no sweep"):
        read.sweep_runs(settings.uri, "f" * 32)
    with pytest.raises(UserError, match="go to the folder where runs were made"):
        read.find_run(f"sqlite:///{tmp_path}/absent.db", "x")
