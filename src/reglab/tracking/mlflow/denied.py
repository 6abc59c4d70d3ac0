"""Messages for HTTP 401 and 403 of an MLflow server."""

import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import read_mlflow_creds

_NAMES = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"

_TEMPORARY = (401, 408, 425, 429)  # another password, or later


def denied(error: Exception) -> str | None:
    """Return the message for HTTP 401 or 403: who was refused and what to do; else None."""
    code = _status(error)
    if code == 401:
        if user := read_mlflow_creds().username:
            return f"the server does not accept the user {user!r} with the password given: check {_NAMES}"
        return f"the server asks for a user and a password: set {_NAMES}"
    if code == 403:
        if "Host header" in str(error):
            return "the server does not answer to this address: name it in the server's --allowed-hosts"
        user = read_mlflow_creds().username
        who = f"the user {user!r}" if user else "the logged-in user"
        return (
            f"{who} lacks the right to do this: ask the server's administrator for EDIT on the experiment, or choose "
            "another tracking.experiment"
        )
    return None


def refused_status(error: Exception) -> int | None:
    """Return the HTTP status of an answer that sending again cannot change; None for others."""
    code = _status(error)
    return code if code is not None and 400 <= code < 500 and code not in _TEMPORARY else None


def _status(error: Exception) -> int | None:
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]  # MLflow's
    # From the artifact store.
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    return None
