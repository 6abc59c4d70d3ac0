"""What is said where a server refuses a user; real servers refuse in tests/server."""

import re

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, PERMISSION_DENIED, UNAUTHENTICATED

from reglab.tracking.mlflow.denied import denied
from reglab.tracking.mlflow.store import reason


def of_artifacts(code: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = code
    return requests.HTTPError(f"{code} for an artifact", response=response)


@pytest.fixture(autouse=True)
def user(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")


@pytest.mark.parametrize(
    "error, said",
    [
        (MlflowException("You are not authenticated.", UNAUTHENTICATED), "the user 'me' with the password given"),
        (MlflowException("Permission denied", PERMISSION_DENIED), "'me' lacks the right .* EDIT"),
        (MlflowException("Invalid Host header - possible ...", PERMISSION_DENIED), "--allowed-hosts"),
        (of_artifacts(401), "the user 'me' with the password given"),
        (of_artifacts(403), "'me' lacks the right .* EDIT"),
    ],
)
def test_a_refusal_says_who_and_what_to_do(error, said):
    assert re.search(said, denied(error))
    assert "secret" not in denied(error)
    assert reason(error) == denied(error)


def test_without_a_user_one_is_asked_for(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    assert "set MLFLOW_TRACKING_USERNAME" in denied(of_artifacts(401))


@pytest.mark.parametrize(
    "error", [MlflowException("broken", INTERNAL_ERROR), of_artifacts(500), requests.ConnectionError("away"), OSError()]
)
def test_other_errors_are_no_refusal(error):
    assert denied(error) is None
