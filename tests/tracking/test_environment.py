"""MLflow's variables say where runs go, where the configuration leaves it open."""

from pathlib import Path

import pytest

from reglab.core.errors import UserError
from reglab.tracking import TrackingSettings
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


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"])
def test_a_variable_that_cannot_be_followed_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "7")
    with pytest.raises(UserError, match=f"{variable}=7 is set, and "):
        TrackingSettings.from_config({})
    TrackingSettings.from_config({"experiment": "mine"})


def test_a_store_in_plain_folders_is_refused_by_the_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI=\./mlruns: MLflow keeps no runs in plain folders"):
        TrackingSettings.from_config({})
