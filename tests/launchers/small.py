"""A small Hydra configuration: fixtures for the tests of sweeps and of the command line."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from launchers.standin import task
from reglab.config.sweep_functions import rewrite

FILES = {
    "train.yaml": """
defaults:
  - _self_
  - optimizer: adam
  - data: digits
  - regularizer: none
  - tracking: none
  - experiment: null
  - override hydra/sweeper: blocks
  - override hydra/launcher: local
  - override hydra/output: here
  - override hydra/hydra_logging: none
  - override hydra/job_logging: none
name: null
seed: 0
act: finish
folder: .
regularizer: {}
sweep: {blocks: [], seeds: null, report: true, test: true}
""",
    "optimizer/adam.yaml": "lr: 0.1\nbetas: [0.9, 0.99]\n",
    "optimizer/sgd.yaml": "# Plain steps.\nlr: 0.1\nmomentum: 0.0\n",
    "data/digits.yaml": "name: digits\nbatch_size: 32\n",
    "data/table.yaml": "name: table\npath: ???\n",
    "regularizer/none.yaml": "{}\n",
    "regularizer/l1.yaml": "l1:\n  strength: 0.1\n",
    "regularizer/l2.yaml": "l2:\n  strength: 0.2\n",
    "regularizer/dropout.yaml": "dropout:\n  strength: 0.5\n",
    "tracking/none.yaml": "name: none\nuri: null\nexperiment: reglab\nartifacts: null\n",
    "experiment/study.yaml": """
# @package _global_
hydra: {mode: MULTIRUN}
sweep:
  seeds: 2
  blocks:
    - {regularizer: []}
    - {regularizer: [l1, dropout], regularizer.l1.strength: "log(1e-3,1e-1,3)"}
""",
    "hydra/output/here.yaml": "# @package hydra\nrun: {dir: out}\nsweep: {dir: out, subdir: '${hydra.job.num}'}\n",
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the configuration; the working folder is empty."""
    folder = tmp_path / "conf"
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


@pytest.fixture
def hydra(conf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hydra]:
    """Hydra with the small configuration, without the data check, which imports torch."""
    monkeypatch.setattr("reglab.sweeps.sweep.check_data", lambda jobs, composer, config: None)
    version.setbase("1.3")
    yield Hydra.create_main_hydra2("reglab", create_config_search_path(str(conf)))
    GlobalHydra.instance().clear()


@pytest.fixture
def master(hydra: Hydra) -> DictConfig:
    """The config of a multirun without overrides."""
    return hydra.compose_config("train", [], RunMode.MULTIRUN, with_log_configuration=False)


@pytest.fixture
def multirun(hydra: Hydra) -> Callable[..., Any]:
    """Run a sweep of the stand-in task as ``reglab train -m`` runs one of trainings."""

    def run(*overrides: str, workers: int = 2) -> Any:
        launcher = [f"hydra.launcher.workers={workers}", "hydra.launcher.preload=[reglab.launchers.worker]"]
        return hydra.multirun("train", task, rewrite([*overrides, *launcher, "hydra.mode=MULTIRUN"]))

    return run
