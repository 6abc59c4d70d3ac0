"""Stores and shared runs for the tests of training: one migrated SQLite file, and one real run, for
all of them.
"""

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig

from training.job_case import Case, close, config


def pytest_configure(config: pytest.Config) -> None:
    # Importing MLflow 3.17's store configures an ORM option that SQLAlchemy 2.1 gave up; it is
    # MLflow's to mend.
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def no_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of multiruns leave Hydra's own config set in the process."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)


@pytest.fixture
def case(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """An empty working folder with a store in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(template, tmp_path / "reglab.db")
    yield Case(tmp_path)
    close(tmp_path)


@pytest.fixture(scope="session")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A finished run that tests only look at: (its case, its config, its result)."""
    from reglab.config.job_request import JobRequest
    from reglab.training.job import run_job

    folder = tmp_path_factory.mktemp("shared")
    shutil.copy(template, folder / "reglab.db")
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(HydraConfig.instance(), "cfg", None)
        described = config("regularizer=[l1,dropout]", "regularizer.l1.strength=1e-2", "+sweep.note=" + 700 * "b")
        result = run_job(described, request=JobRequest(0, parent="p", block=700 * "b"))
    yield Case(folder), described, result
    close(folder)
