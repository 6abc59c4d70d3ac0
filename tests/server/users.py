"""The users of the test server, and what its administrator asks of it by its REST interface."""

from typing import Any

import requests
from scripts.chaos.mlflow_server import MlflowServer

ADMIN, WRITER, READER, STRANGER = "admin", "writer", "reader", "stranger"
PASSWORDS = {name: f"the-password-of-{name}" for name in (ADMIN, WRITER, READER, STRANGER)}
STUDY = "study"


def administer(server: MlflowServer, what: str, version: str = "2.0", **values: Any) -> Any:
    """Have the administrator ``POST`` something, and return the answer."""
    return _answer(requests.post(f"{server.uri}/api/{version}/mlflow/{what}", json=values, auth=_login(), timeout=60))


def look(server: MlflowServer, what: str, **values: Any) -> Any:
    """Have the administrator ``GET`` something, and return the answer."""
    return _answer(requests.get(f"{server.uri}/api/2.0/mlflow/{what}", params=values, auth=_login(), timeout=60))


def _login() -> tuple[str, str]:
    return ADMIN, PASSWORDS[ADMIN]


def _answer(answer: requests.Response) -> Any:
    assert answer.ok, answer.text
    return answer.json()
