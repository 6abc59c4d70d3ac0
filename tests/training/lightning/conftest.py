"""The fixture that trains jobs of a LightningModule."""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from reglab.config import trust
from reglab.training.job_result import JobResult
from reglab.training.lightning.job import run_module_job
from training.job_case import Case
from training.lightning.module_case import Cut, Run, composed


@pytest.fixture
def run(case: Case, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Train a job in ``folder``; ``cut`` ends it after that epoch as if its process died."""

    def train(*overrides: str, folder: str = "it", cut: int | None = None, **given: Any) -> JobResult:
        hydra = {"runtime": {"output_dir": str(case.folder / folder)}, "overrides": {"task": list(overrides)}}
        monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": hydra}))

        def cutting(progress: Any) -> None:
            if progress.epoch == cut:
                raise Cut

        return run_module_job(composed(*overrides), cutting, **given)

    with trust.isolated():
        trust.trust("training")
        yield train
