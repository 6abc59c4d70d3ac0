"""MLflow's variables say where runs go, where the configuration leaves it open."""

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

import forked
from reglab.core.errors import UserError
from reglab.tracking import TrackingSettings
from reglab.tracking.environment import check_variables
from reglab.tracking.settings import absolute_uri, view_command

SERVER = "http://127.0.0.1:5999"


def test_the_store_is_that_of_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    monkeypatch.chdir(tmp_path)
    settings = TrackingSettings.from_config({"uri": None})
    assert (settings.uri, settings.artifacts) == (SERVER, None)
    assert absolute_uri(None, tmp_path) == SERVER
    assert view_command(SERVER) == SERVER
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    assert TrackingSettings.from_config({}).uri == f"sqlite:///{tmp_path / 'mine.db'}"


def test_what_is_given_comes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    given = {"uri": "sqlite:///here.db", "experiment": "mine"}
    settings = TrackingSettings.from_config(given, tmp_path)
    assert (settings.uri, settings.experiment) == (f"sqlite:///{tmp_path / 'here.db'}", "mine")


def test_the_experiment_is_that_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrackingSettings.from_config({"experiment": None}).experiment == "reglab"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "churn")
    assert TrackingSettings.from_config({"experiment": None}).experiment == "churn"


@pytest.mark.parametrize(
    "variable, named, refused",
    [
        ("MLFLOW_RUN_ID", None, True),
        ("MLFLOW_RUN_ID", "mine", True),
        ("MLFLOW_EXPERIMENT_ID", None, True),
        ("MLFLOW_EXPERIMENT_ID", "mine", False),
    ],
)
def test_a_variable_that_a_new_run_cannot_follow_is_refused(
    variable: str, named: str | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "7")
    with pytest.raises(UserError, match=f"{variable}=7 is set, and ") if refused else nullcontext():
        check_variables(named)


def test_without_mlflow_its_variables_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI=databricks is no SQLite file and no server"):
        TrackingSettings.from_config({}, tmp_path)
    assert TrackingSettings.from_config({"name": "none"}, tmp_path).uri == f"sqlite:///{tmp_path / 'reglab.db'}"


def test_a_sweep_is_resumed_without_the_variables_that_it_was_begun_with(tmp_path: Path, template: Path) -> None:
    shutil.copy(template, tmp_path / "theirs.db")

    def reglab(*words: str, **variables: str) -> str:
        ended = forked.run(["-m", "reglab", *words], cwd=tmp_path, env={**os.environ, **variables})
        assert ended.returncode == 0, ended.stderr
        return ended.stderr

    job = ["data=wine", "model=linear", "trainer.max_epochs=1", "sweep.report=false", "sweep.test=false"]
    variables = {"MLFLOW_TRACKING_URI": "sqlite:///theirs.db", "MLFLOW_EXPERIMENT_NAME": "churn"}
    reglab("train", "-m", "seed=0,1", *job, "hydra.sweep.dir=it", "hydra.launcher.workers=1", **variables)
    assert "2 of 2 jobs are finished" in reglab("resume", "it")
    assert not (tmp_path / "reglab.db").exists()


def test_a_store_in_plain_folders_is_refused_by_the_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI=\./mlruns is no SQLite file and no server"):
        TrackingSettings.from_config({})
