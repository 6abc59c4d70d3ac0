"""A real MLflow server, once a session: PostgreSQL behind it, users in front of it."""

import os
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from scripts.chaos.mlflow_server import MlflowServer

from reglab.tracking import RunTracker, TrackingSettings, open_run, store_gate
from server.postgres import Cluster, binaries
from server.users import ADMIN, PASSWORDS, READER, STRANGER, STUDY, WRITER, administer


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    programs = binaries()
    if programs is None:
        missing = "PostgreSQL is not installed; on Debian: apt install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    made = Cluster(programs)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """The server as docs/server.md starts it, with three users beside the administrator."""
    folder = tmp_path_factory.mktemp("server")
    users = folder / "users.ini"
    users.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {cluster.create('users').replace('%', '%%')}\n"
        f"admin_username = {ADMIN}\nadmin_password = {PASSWORDS[ADMIN]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\nauth_cache_ttl_seconds = 60\n"
    )
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(users), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test"}
    made = MlflowServer(folder, cluster.create("mlflow"), ("--app-name", "basic-auth"), environment)
    made.start()
    try:
        for name in (WRITER, READER, STRANGER):
            administer(made, "users/create", username=name, password=PASSWORDS[name])
        experiment = administer(made, "experiments/create", name=STUDY)["experiment_id"]
        for name, right in ((WRITER, "EDIT"), (STRANGER, "DENY")):
            what = {"resource_type": "experiment", "resource_id": experiment, "permission": right}
            administer(made, "users/permissions/grant", "3.0", username=name, **what)
        yield made
    finally:
        made.kill()


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes this process, and what it starts, a user of the server."""

    def become(name: str, password: str | None = None) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password or PASSWORDS[name])
        forkserver._forkserver._stop()  # what it forks has the environment of when it was started

    return become


@pytest.fixture
def settings(server: MlflowServer, login: Callable[..., None], tmp_path: Path) -> TrackingSettings:
    """Settings over the server, for a user who may write."""
    login(WRITER)
    store_gate.name_store(server.uri)
    return TrackingSettings.from_config({"name": "mlflow", "uri": server.uri, "experiment": STUDY}, tmp_path)


@pytest.fixture
def start(settings: TrackingSettings, tmp_path: Path) -> Callable[..., RunTracker]:
    """Open a run named ``name`` in a folder of that name."""

    def open_one(name: str = "run", **given: Any) -> RunTracker:
        arguments: dict[str, Any] = {"config": {"seed": 0}, "params": {"lr": 0.1}, "tags": {}, **given}
        return open_run(settings, name=name, folder=tmp_path / "runs" / name, **arguments)

    return open_one
