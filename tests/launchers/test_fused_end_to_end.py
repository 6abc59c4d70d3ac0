"""A sweep by both launchers, end to end: each fused run equals the one trained alone."""

import re
import sqlite3
from contextlib import chdir, closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

import reglab
from reglab import data
from reglab.cli.command import main

EPOCHS = 6
BLOCKS = (
    '{regularizer: [mixup, dropout], regularizer.dropout.strength: "0.1,0.5", optimizer.lr: 0.01}',
    '{regularizer: [ema, l1], regularizer.l1.strength: "1e-3,1e-2", optimizer: momentum, optimizer.lr: 0.01}',
    '{regularizer: [sam, weight_decay], regularizer.weight_decay.strength: "0.1,1", data.replicas: 2}',
    '{regularizer: [early_stopping, l2], regularizer.early_stopping.patience: 1, optimizer.lr: "1e-3,1e-2,0.3,1"}',
    '{regularizer: [l2], optimizer: sgd, optimizer.lr: "1e-2,1e9,1e-1", seed: 3}',
)
SMALL = (
    "data=wine",
    "model.width=6",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.accelerator=cpu",
    "hydra.launcher.workers=1",
)
# What says where a run is, or how it was trained.
OWN_TAGS = {"reglab.fused", "reglab.compiled", "reglab.folder", "reglab.command", "reglab.overrides", "reglab.sweep"}
OWN_TAGS |= {"mlflow.parentRunId"}
OWN_PARAMS = {"tracking.experiment"}
STOPPING, DIVERGED = range(6, 10), 11


class Found(NamedTuple):
    """A sweep in its store: the parent run, and the jobs' runs by job number."""

    store: Path
    parent: Any
    runs: dict[int, Any]

    def histories(self, job: int) -> dict[str, dict[int, float]]:
        """Return each metric's values by step, in one query."""
        query = "SELECT key, step, value FROM metrics WHERE run_uuid = ?"
        outcome: dict[str, dict[int, float]] = {}
        with closing(sqlite3.connect(self.store)) as store:
            for key, step, value in store.execute(query, [self.runs[job].info.run_id]):
                outcome.setdefault(key, {})[step] = value
        return outcome

    def epochs(self, job: int) -> int:
        return max(self.histories(job)["val/loss"])

    def artifacts(self, job: int) -> Path:
        return Path(self.runs[job].info.artifact_uri.removeprefix("file://"))

    def checkpoint(self, job: int, name: str) -> dict[str, Any]:
        saved: dict[str, Any] = torch.load(self.artifacts(job) / "checkpoints" / name, weights_only=True)
        return saved


def sweep(folder: Path, launcher: str) -> Found:
    """Run the sweep in ``folder`` from the command line and return what MLflow has of it."""
    blocks = f"sweep.blocks=[{','.join(BLOCKS)}]"
    always = ["hydra.launcher.always=true"] if launcher == "fused" else []  # two members are too few for it to pay
    arguments = [blocks, *SMALL, f"hydra/launcher={launcher}", f"tracking.experiment={launcher}", *always]
    code = main(["train", "-m", *arguments])
    assert code == 1  # one job diverges
    client = MlflowClient(f"sqlite:///{folder / 'reglab.db'}")
    experiment = client.get_experiment_by_name(launcher)
    runs = client.search_runs([experiment.experiment_id])
    jobs = {int(run.data.tags["reglab.job"]): run for run in runs if "mlflow.parentRunId" in run.data.tags}
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(jobs) == list(range(13))
    return Found(folder / "reglab.db", parent, jobs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("both")


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[Found, Found]:
    """The sweep by the fused launcher and by the local one, which trains each job alone."""
    with chdir(folder):
        return sweep(folder, "fused"), sweep(folder, "local")


JOBS = pytest.mark.parametrize("job", range(13))


def test_every_job_was_in_a_pack_and_in_none(both: tuple[Found, Found]) -> None:
    fused, solo = both
    sizes = [fused.runs[job].data.tags["reglab.fused"] for job in range(13)]
    assert sizes == ["2"] * 6 + ["4"] * 4 + ["3"] * 3
    assert not any("reglab.fused" in run.data.tags for run in solo.runs.values())


@JOBS
def test_params_tags_and_status_are_equal(both: tuple[Found, Found], job: int) -> None:
    fused, solo = (outcome.runs[job] for outcome in both)
    assert fused.info.status == solo.info.status == ("FAILED" if job == DIVERGED else "FINISHED")
    assert fused.info.run_name == solo.info.run_name
    assert drop(fused.data.params, OWN_PARAMS) == drop(solo.data.params, OWN_PARAMS)
    fused_tags, alone_tags = (drop(run.data.tags, OWN_TAGS) for run in (fused, solo))
    notes = [tags.pop("mlflow.note.content") for tags in (fused_tags, alone_tags)]
    assert fused_tags == alone_tags
    assert without_numbers(notes[0]) == without_numbers(notes[1])


@JOBS
def test_metrics_have_the_same_steps_and_nearly_the_same_values(both: tuple[Found, Found], job: int) -> None:
    fused, solo = (outcome.histories(job) for outcome in both)
    assert set(fused) == set(solo)
    for key, points in solo.items():
        assert sorted(fused[key]) == sorted(points), key
        if not key.startswith("system/"):
            values = [[outcome[step] for step in sorted(points)] for outcome in (fused[key], points)]
            np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-4, err_msg=key)


@JOBS
def test_artifacts_are_the_same_files_and_hold_the_same_weights(both: tuple[Found, Found], job: int) -> None:
    folders = [outcome.artifacts(job) for outcome in both]
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in folders]
    assert names[0] == names[1]
    for name in ("best.ckpt", "last.ckpt") if job != DIVERGED else ():
        fused, solo = (outcome.checkpoint(job, name) for outcome in both)
        assert fused["epoch"] == solo["epoch"]
        assert list(fused["state_dict"]) == list(solo["state_dict"])
        for key, expected in solo["state_dict"].items():
            torch.testing.assert_close(fused["state_dict"][key], expected, rtol=1e-3, atol=1e-4, msg=f"{name} {key}")


@pytest.mark.parametrize("weights", ["best", "last"])
@pytest.mark.parametrize("job", [0, 3, 5, 8])
def test_a_member_is_loaded_as_the_model_that_it_is_alone(
    both: tuple[Found, Found], folder: Path, job: int, weights: str
) -> None:
    inputs = data.load({"name": "wine"}).test.inputs
    with chdir(folder), torch.no_grad():
        fused, solo = (reglab.load(outcome.runs[job].info.run_id, weights=weights).eval()(inputs) for outcome in both)
    torch.testing.assert_close(fused, solo, rtol=1e-3, atol=1e-4)


def test_members_stop_at_epochs_of_their_own(both: tuple[Found, Found]) -> None:
    fused, _ = both
    last = {job: fused.epochs(job) for job in STOPPING}
    assert min(last.values()) < max(last.values()) == EPOCHS
    by_end = sorted(STOPPING, key=lambda job: (fused.runs[job].info.end_time, last[job]))
    assert [last[job] for job in by_end] == sorted(last.values())


def test_a_diverged_member_keeps_what_it_had_and_harms_nobody(both: tuple[Found, Found]) -> None:
    fused, solo = (outcome.runs[DIVERGED] for outcome in both)
    assert fused.data.tags["reglab.failure"] == "diverged"
    assert fused.data.tags["reglab.message"] == solo.data.tags["reglab.message"]
    for job in (DIVERGED - 1, DIVERGED + 1):
        assert both[0].epochs(job) == EPOCHS


def test_the_sweep_comes_to_the_same_choice(both: tuple[Found, Found]) -> None:
    fused, solo = (outcome.parent.data.tags for outcome in both)
    assert fused["reglab.chosen"] == solo["reglab.chosen"]
    assert without_numbers(fused["reglab.verdict"]) == without_numbers(solo["reglab.verdict"])


def drop(values: dict[str, str], keys: set[str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key not in keys}


def without_numbers(text: str) -> str:
    """Return ``text`` without its numbers, whose last digit may round either way."""
    return re.sub(r"\d[\d.e-]*", "#", text)
