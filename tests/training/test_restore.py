"""Trained models back from their runs."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from torch import nn

from reglab import data
from reglab.core.errors import UserError
from reglab.training import checkpoint_files, restore
from training.job_case import Case, checkpoint, loss_and_accuracy, outputs_by_hand

STEEP = ("optimizer=sgd", "optimizer.lr=8")  # the best epoch is not the last


def wine() -> data.DataSet:
    return data.load({"name": "wine"})


def measured(model: nn.Module, part: data.Part) -> tuple[float, float]:
    with torch.no_grad():
        return loss_and_accuracy(model(part.inputs).double().numpy(), part.targets)


def folder_of(case: Case) -> Path:
    (folder,) = case.folder.glob("runs/*/*")
    return folder


def test_a_run_is_found_by_id_name_folder_and_checkpoint(case: Case) -> None:
    run = case.train("regularizer=[dropout]", "name=my study").run_id
    folder = folder_of(case)
    state = checkpoint(folder / "checkpoints" / "last.ckpt")
    wanted = torch.from_numpy(outputs_by_hand(state, wine().val.inputs)).float()
    for given in (run, "my study", folder, str(folder), folder / "checkpoints" / "last.ckpt"):
        model = restore.load(given)
        assert not model.training
        torch.testing.assert_close(model(wine().val.inputs), wanted, atol=1e-6, rtol=0)
        assert model.reglab_weights == "last"


def test_the_newest_run_of_a_name_counts_and_a_store_can_be_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.train("name=twice")
    newest = case.train("name=twice", "seed=1").run_id
    (case.folder / "elsewhere").mkdir()
    monkeypatch.chdir(case.folder / "elsewhere")
    actual, wanted = restore.load("twice", uri=case.uri), restore.load(newest, uri=case.uri)
    assert torch.equal(actual.head.weight, wanted.head.weight)


def test_last_and_best_are_those_epochs_weights(case: Case) -> None:
    result = case.train(*STEEP)
    losses = case.steps(result.run_id, "val/loss")
    best = min((1, 2, 3), key=losses.__getitem__)
    assert best < 3
    for kind, epoch in (("last", 3), ("best", best)):
        model = restore.load(result.run_id, kind)
        assert model.reglab_weights == kind
        assert measured(model, wine().val)[0] == pytest.approx(losses[epoch], rel=1e-5)
    assert restore.load(result.run_id).reglab_weights == "last"


def test_a_run_that_may_stop_early_stands_for_its_best_weights(case: Case) -> None:
    result = case.train("regularizer=[early_stopping]", *STEEP)
    model = restore.load(result.run_id)
    assert model.reglab_weights == "best"
    assert measured(model, wine().val)[0] == pytest.approx(result.metrics["val/loss"], rel=1e-5)


def test_averaged_weights_are_those_that_were_measured(case: Case) -> None:
    result = case.train("regularizer=[ema]", "regularizer.ema.strength=0.9")
    model = restore.load(result.run_id)
    assert model.reglab_weights == "last averaged"
    assert measured(model, wine().val)[0] == pytest.approx(result.metrics["val/loss"], abs=1e-6)
    trained = checkpoint(folder_of(case) / "checkpoints" / "last.ckpt")["model.head.weight"]
    assert not torch.allclose(model.head.weight, trained, atol=1e-4)
    flat = np.concatenate([model.hidden[0].linear.weight.detach().numpy().ravel(), model.head.weight.detach().ravel()])
    np.testing.assert_array_equal(restore.flat_weights(case.uri, result.run_id), flat)


@pytest.mark.parametrize("stops", [False, True])
def test_a_run_without_mlflow_is_loaded_from_its_folder(case: Case, stops: bool) -> None:
    result = case.train("tracking=none", *STEEP, *(["regularizer=[early_stopping]"] if stops else []))
    model = restore.load(folder_of(case))
    assert model.reglab_weights == ("best" if stops else "last")
    assert measured(model, wine().val)[0] == pytest.approx(result.metrics["val/loss"], rel=1e-5)
    assert restore.load(folder_of(case), "best").reglab_weights == "best"


def test_a_folder_is_loaded_without_asking_its_store(case: Case) -> None:
    result = case.train("regularizer=[early_stopping]", *STEEP)
    (case.folder / "reglab.db").rename(case.folder / "away.db")
    model = restore.load(folder_of(case))
    assert model.reglab_weights == "best"
    assert measured(model, wine().val)[0] == pytest.approx(result.metrics["val/loss"], rel=1e-5)


def test_what_cannot_be_found_is_told_with_what_is_near(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case, _, result = shared
    monkeypatch.chdir(case.folder)
    for run, kind, message in (
        ("l1+dropout 0.1 seed 0", None, "did you mean 'l1\\+dropout 0.01 seed 0'"),
        (result.run_id, "bst", "did you mean 'best'"),
        ("nowhere.ckpt", None, "there is no checkpoint nowhere.ckpt"),
    ):
        with pytest.raises(UserError, match=message):
            restore.load(run, kind)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text, tensors = tmp_path / "text.ckpt", tmp_path / "tensors.ckpt"
    text.write_text("not a checkpoint")
    checkpoint_files.write({"state_dict": {}}, tensors)
    for path, message in ((text, "has no checksum"), (tensors, "does not say how its model was built")):
        with pytest.raises(UserError, match=message):
            restore.load(path)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    path, target = tmp_path / "last.ckpt", tmp_path / "made by the checkpoint"
    checkpoint_files.write({"state_dict": {}, "hyper_parameters": Malicious(target)}, path)
    torch.load(path, weights_only=False)
    target.rmdir()  # so it would have run
    with pytest.raises(UserError, match="cannot be read"):
        restore.load(path)
    assert not target.exists()


def test_a_model_of_another_shape_is_refused(shared: Any) -> None:
    case, _, result = shared
    path = case.artifacts(result.run_id) / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match="does not fit the model"):
        restore.load(path, model=nn.Linear(13, 3))


def test_the_test_result_is_recorded_with_the_run(case: Case) -> None:
    run = case.train("regularizer=[dropout]").run_id
    assert not any(key.startswith("test/") for key in case.metrics(run))
    actual = restore.test_run(case.uri, run, None)
    state = checkpoint(case.artifacts(run) / "checkpoints" / "last.ckpt")
    loss, accuracy = loss_and_accuracy(outputs_by_hand(state, wine().test.inputs), wine().test.targets)
    assert actual["test/loss"] == pytest.approx(loss, abs=1e-6)
    assert actual["test/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    wilson = scipy.stats.binomtest(round(accuracy * len(wine().test)), len(wine().test)).proportion_ci(0.95, "wilson")
    assert (actual["test/accuracy_low"], actual["test/accuracy_high"]) == pytest.approx((wilson.low, wilson.high))
    assert actual["test/loss_low"] < loss < actual["test/loss_high"]
    ends = {f"test/{name}{end}" for name in ("loss", "accuracy") for end in ("", "_se", "_low", "_high")}
    assert set(actual) == ends == {key for key in case.metrics(run) if key.startswith("test/")}
    assert case.steps(run, "test/loss") == {3: actual["test/loss"]}
    assert case.run(run).data.tags["reglab.test_touched"] == "true"
    assert case.run(run).info.status == "FINISHED"


def test_an_older_config_with_a_bootstrap_is_tested_at_its_level(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    run = case.train("measure.level=0.8").run_id
    wanted = restore.resolved
    older = {"resamples": 400, "level": 0.8}
    monkeypatch.setattr(restore, "resolved", lambda node, key: older if key == "measure" else wanted(node, key))
    actual = restore.test_run(case.uri, run, None)
    rows = len(wine().test)
    wilson = scipy.stats.binomtest(round(actual["test/accuracy"] * rows), rows).proportion_ci(0.8, "wilson")
    assert actual["test/accuracy_low"] == pytest.approx(wilson.low)


def test_a_test_result_on_other_data_would_not_count(case: Case) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    table = pd.DataFrame(rows, columns=["a", "b", "y"])
    table.to_csv("table.csv", index=False)
    run = case.train("data=table", "data.path=table.csv", "data.target=y").run_id
    table.iloc[7, 0] += 1
    table.to_csv("table.csv", index=False)
    with pytest.raises(UserError, match=r"data of run .* changed since it was trained"):
        restore.test_run(case.uri, run, None)
    assert not any(key.startswith("test/") for key in case.metrics(run))
    assert "reglab.test_touched" not in case.run(run).data.tags
