"""Fixtures for the tests of sweeps."""

from collections.abc import Callable
from typing import Any

import pytest
from hydra._internal.hydra import Hydra

from reglab.sweeps.functions import rewrite
from sweeps.small import conf, hydra, master
from sweeps.standin import task

__all__ = ["conf", "hydra", "master", "multirun"]


@pytest.fixture
def multirun(hydra: Hydra) -> Callable[..., Any]:
    """Run a sweep of the stand-in task as ``reglab train -m`` runs one of trainings."""

    def run(*overrides: str, workers: int = 2) -> Any:
        launcher = [f"hydra.launcher.workers={workers}", "hydra.launcher.preload=[reglab.sweeps.worker]"]
        return hydra.multirun("train", task, rewrite([*overrides, *launcher, "hydra.mode=MULTIRUN"]))

    return run
