"""A sweep by the process launcher, end to end: a job on one device, the same on two ranks."""

from contextlib import chdir
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from reglab.cli.command import main

# Devices alone would make no other job.
BLOCKS = "{trainer.devices: 1, measure.near_zero: 0.002}", "{trainer.devices: 2, measure.near_zero: 0.003}"
SMALL = ("data=wine", "model.width=6", "trainer.max_epochs=3", "trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("process")
    launcher = ("hydra/launcher=process", "hydra.launcher.workers=2", "hydra.launcher.timeout=10", "sweep.report=false")
    with chdir(folder):
        code = main(["train", "-m", f"sweep.blocks=[{', '.join(BLOCKS)}]", *SMALL, *launcher])
        client = MlflowClient(f"sqlite:///{folder}/reglab.db")
        (experiment,) = [each for each in client.search_experiments() if each.name != "Default"]
        runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return code, folder, {int(run.data.params["trainer.devices"]): run for run in children}


def test_each_job_is_one_finished_run(sweep):
    code, folder, runs = sweep
    assert code == 0
    assert {devices: run.info.status for devices, run in runs.items()} == {1: "FINISHED", 2: "FINISHED"}
    assert sorted(path.parent.name for path in folder.glob("runs/*/*/*/checkpoints")) == ["0", "1"]


def test_two_ranks_train_as_one_does(sweep):
    _, _, runs = sweep
    one, two = runs[1].data.metrics, runs[2].data.metrics
    for key in ("final/train/loss", "final/val/loss"):
        assert two[key] == pytest.approx(one[key], rel=1e-4), key


def test_no_process_is_left(sweep):
    _, folder, _ = sweep
    assert [process for process in psutil.Process().children(recursive=True) if _of_sweep(process, folder)] == []


def _of_sweep(process: psutil.Process, folder: Path) -> bool:
    """Tell whether a process is a job's; Python's resource tracker stays."""
    try:
        tracker = any("resource_tracker" in word for word in process.cmdline())
        return not tracker and Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False
