"""Stores and runs for the tracking tests: one migrated SQLite file, copied for each test."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reglab.tracking import RunTracker, TrackingSettings, open_run


def pytest_configure(config: pytest.Config) -> None:
    # Importing MLflow 3.17's store configures an ORM option that SQLAlchemy 2.1 gave up; it is
    # MLflow's to mend.
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> Iterator[TrackingSettings]:
    """Settings over a store of the test's own."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    shutil.copy(template, tmp_path / "reglab.db")
    made = TrackingSettings.from_config({"name": "mlflow", "uri": None, "experiment": "study"}, tmp_path)
    yield made
    # MLflow keeps connections open for the process's life.
    SqlAlchemyStore._get_or_create_engine(made.uri).dispose()


@pytest.fixture
def store(settings: TrackingSettings, tmp_path: Path) -> Path:
    """The SQLite file behind ``settings``."""
    return tmp_path / "reglab.db"


@pytest.fixture
def client(settings: TrackingSettings) -> Any:
    """MLflow's own client, the judge of what was stored."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.uri)


@pytest.fixture
def dataset() -> SimpleNamespace:
    return SimpleNamespace(
        name="digits", digest="0123456789abcdef" * 4, summary={"train_rows": 100, "label_noise": 0.2}
    )


@pytest.fixture
def start(settings: TrackingSettings, tmp_path: Path) -> Callable[..., RunTracker]:
    """Open a run named ``name`` in a folder of that name."""

    def open_one(name: str = "run", **given: Any) -> RunTracker:
        arguments: dict[str, Any] = {"config": {}, "params": {}, "tags": {}, **given}
        return open_run(settings, name=name, folder=tmp_path / "runs" / name, **arguments)

    return open_one
