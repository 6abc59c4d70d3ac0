"""Losses by example of runs alone and in packs, beside what the trained model says by itself."""

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import DictConfig

import reglab
from reglab import data
from reglab.analysis.per_example_file import FILE, Examples, read
from reglab.config.pack_settings import PackSettings
from reglab.config.paths import conf_dir
from reglab.data import DataSet, Part
from reglab.measures import MeasureSettings
from reglab.measures.evaluate import evaluation_of
from reglab.tracking.run_state import read_state
from reglab.training.describe import plain
from reglab.training.fused import job
from reglab.training.job import run_job
from reglab.training.job_result import JobResult
from reglab.training.per_example import constant_predictor, examples, measured_rows
from training.job_case import checkpoint

COMMON = ("trainer.max_epochs=3", "trainer.accelerator=cpu", "tracking=none")
COMMON += ("model.width=6", "model.depth=1", "optimizer.lr=0.03")
LONGER = ("trainer.max_epochs=9",)
CASES: dict[str, tuple[str, ...]] = {
    "classification": ("data=wine",),
    "binary": ("data=breast_cancer", "measure.probe_rows=50"),
    "multilabel": ("data=multilabel", "data.train_size=200"),
    "regression": ("data=diabetes", "measure.monitor=val/r2"),
    "weighted": ("data=wine", "data.class_weight=balanced"),
    "noisy": ("data=wine", "data.label_noise=0.3"),
    "fold": ("data=wine", "data.folds=3", "data.fold=1"),
    "bootstrap": ("data=wine", "data.replicas=2", "data.replica=1"),
    "double": ("data=wine", "trainer.precision=64-true"),
    "averaged": ("data=wine", "regularizer=[ema]", "regularizer.ema.strength=0.9"),
    "stopped": ("data=wine", "regularizer=[early_stopping]", "data.train_size=30", "optimizer.lr=0.3", *LONGER),
    "norm": ("data=wine", "model.norm=batch"),
    "every": ("data=wine", "measure.every=2"),
}


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        return compose("train", [*COMMON, *overrides])


def packed(configs: list[DictConfig], folder: Path) -> dict[int, JobResult]:
    results: dict[int, JobResult] = {}
    folders = [folder / str(number) for number in range(len(configs))]
    job.run_pack(configs, folders, PackSettings(compile=False, always=True), None, results.__setitem__)
    return results


def losses(outputs: NDArray[Any], targets: NDArray[Any], task: str) -> NDArray[Any]:
    """Return each example's loss, in float64."""
    if task == "classification":
        shifted = outputs - outputs.max(1, keepdims=True)
        actual: NDArray[Any] = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(targets)), targets]
        return actual
    outputs = outputs.reshape(targets.shape)
    if task == "regression":
        return (outputs - targets) ** 2
    each = np.log1p(np.exp(-np.abs(outputs))) + np.maximum(outputs, 0) - outputs * targets
    return each if each.ndim == 1 else each.mean(1)


def judge(kept: Examples, given: DataSet, folder: Path, metrics: Mapping[str, float], double: bool) -> None:
    """Hold the examples against the data, the loaded model and the run's final metrics."""
    model, task = reglab.load(folder), given.task
    if double:
        state = checkpoint(folder / "checkpoints" / "last.ckpt")
        model.double().load_state_dict({key[6:]: value for key, value in state.items() if key.startswith("model.")})
    tolerance: dict[str, float] = {"rtol": 1e-10, "atol": 1e-12} if double else {"rtol": 1e-4, "atol": 2e-6}
    name = "r2" if task == "regression" else "accuracy"
    in_train = {int(number): row for row, number in enumerate(given.train.index)}
    probe = torch.tensor([in_train[int(number)] for number in kept.probe_index])
    sides: list[tuple[str, Part, torch.Tensor]] = [
        ("val", given.val, torch.arange(len(given.val))), ("probe", given.train, probe),
    ]  # fmt: skip
    for side, part, rows in sides:
        index, loss, terms, weight = (getattr(kept, f"{side}_{key}") for key in ("index", "loss", "score", "weight"))
        np.testing.assert_array_equal(index, part.index[rows].numpy())
        with torch.no_grad():
            dtype = torch.float64 if double else torch.float32
            outputs = model(part.inputs[rows].to(dtype))
        wanted = losses(outputs.double().numpy(), part.targets[rows].numpy(), task)
        np.testing.assert_allclose(loss, wanted, **tolerance)
        assert loss.dtype == (np.float64 if double else np.float32)
        where = {"val": "val", "probe": "train"}[side]
        assert loss.mean(dtype=np.float64) == pytest.approx(metrics[f"{where}/loss"], rel=2e-6)
        assert float(terms.astype(np.float64).mean()) == pytest.approx(metrics[f"{where}/{name}"], rel=1e-4, abs=1e-6)
        even = bool((part.weights[rows] == 1).all())
        assert (weight is None) == even
        if not even:
            np.testing.assert_array_equal(weight, part.weights[rows].numpy())
        if side == "val":
            np.testing.assert_allclose(kept.val_outputs, outputs.numpy(), rtol=1e-4, atol=2e-5)
            np.testing.assert_array_equal(kept.val_targets, part.targets.numpy())


@pytest.mark.parametrize("case", CASES)
def test_a_run_keeps_what_its_weights_reach_on_each_example(case: str, tmp_path: Path) -> None:
    double = case == "double"
    composed = [config(*CASES[case], f"seed={seed}") for seed in range(2)]
    given = data.load(plain(composed[0])["data"])
    with chdir(tmp_path):
        results = packed(composed, tmp_path)
        solo_result = run_job(composed[0])
    assert {result.status for result in [*results.values(), solo_result]} == {"FINISHED"}
    assert (solo_result.metrics["epoch"] < 3) == (case == "stopped")  # which stands for its best epoch, not its last
    (solo,) = (tmp_path / "runs").glob("*/*")
    kept = read(solo / FILE)
    judge(kept, given, solo, solo_result.metrics, double)
    for place, result in results.items():
        judge(read(tmp_path / str(place) / FILE), given, tmp_path / str(place), result.metrics, double)
    # so that runs of one split pair by row, whichever way they were trained
    assert {tuple(read(folder / FILE).val_index) for folder in (solo, tmp_path / "0", tmp_path / "1")} == {
        tuple(given.val.index.tolist())
    }


@pytest.mark.parametrize("spare, kept", [(0, True), (-1, False)])
def test_outputs_are_kept_as_long_as_they_are_few(spare: int, kept: bool, tmp_path: Path) -> None:
    given = data.load(plain(config("data=wine"))["data"])
    rows = measured_rows(given, MeasureSettings())
    targets = given.train.targets[: len(rows.probe.index)]
    probe = evaluation_of(torch.zeros(len(targets), given.outputs), targets, given.task)
    most = len(given.val) * given.outputs + spare
    path = tmp_path / FILE
    examples(rows, (probe, rows.constant), given.task, torch.float32, most_outputs=most).write(path)
    assert (read(path).val_outputs is not None) == (read(path).val_targets is not None) == kept


def test_a_run_without_a_result_keeps_none_and_one_that_is_extended_new_ones(tmp_path: Path) -> None:
    diverging = [config("data=wine", "optimizer=sgd", f"optimizer.lr={rate}") for rate in ("1e30", "0.03")]
    with chdir(tmp_path):
        results = packed(diverging, tmp_path)
        assert run_job(diverging[0]).status == results[0].status == "FAILED"
        assert not list((tmp_path / "runs").rglob(FILE))
        assert [(tmp_path / str(place) / FILE).exists() for place in (0, 1)] == [False, True]
        before = read(tmp_path / "1" / FILE)
        longer = config("data=wine", "optimizer=sgd", "optimizer.lr=0.03", "trainer.max_epochs=6")
        result = run_job(longer, resume=read_state(tmp_path / "1"))
    after = read(tmp_path / "1" / FILE)
    assert before.val_loss.mean() == pytest.approx(results[1].metrics["val/loss"], rel=1e-6)
    assert after.val_loss.mean() == pytest.approx(result.metrics["val/loss"], rel=1e-6)
    assert result.metrics["val/loss"] != results[1].metrics["val/loss"]


def test_a_run_that_had_nothing_left_to_train_keeps_them_too(tmp_path: Path) -> None:
    with chdir(tmp_path):
        packed([config("data=wine", f"seed={seed}") for seed in range(2)], tmp_path)
        before = (tmp_path / "1" / FILE).read_bytes()
        (tmp_path / "1" / FILE).unlink()
        run_job(config("data=wine", "seed=1"), resume=read_state(tmp_path / "1"))
    (tmp_path / "before.npz").write_bytes(before)
    mine, right = read(tmp_path / "1" / FILE), read(tmp_path / "before.npz")
    np.testing.assert_allclose(mine.val_loss, right.val_loss, rtol=1e-5)


@pytest.mark.parametrize(
    "task, targets",
    [
        ("regression", torch.arange(40) % 7),
        ("binary", torch.arange(40) % 2 == 0),
        ("binary", (torch.arange(40) % 2).to(torch.uint8)),
        ("multilabel", torch.stack([torch.arange(40) % 2 == 0, torch.arange(40) % 3 == 0], 1)),
    ],
)
def test_a_constant_predictor_takes_targets_of_any_dtype(task: Any, targets: torch.Tensor) -> None:
    width = 1 if targets.dim() == 1 else 2
    predicted = constant_predictor(targets, 5, width, task)
    share = targets.double().reshape(40, -1).mean(0)
    wanted = share if task == "regression" else ((40 * share + 0.5) / (40 - 40 * share + 0.5)).log()
    torch.testing.assert_close(predicted.double(), wanted.expand(5, width), rtol=1e-5, atol=1e-6)


def test_a_constant_predictor_passes_over_labels_that_are_ignored() -> None:
    predicted = constant_predictor(torch.tensor([0, 0, 2, -100, -100]), 4, 3, "classification")
    torch.testing.assert_close(predicted.exp(), (torch.tensor([2.5, 0.5, 1.5]) / 4.5).expand(4, 3))
