"""A job from its composed config to its MLflow run: what it leaves there when it finishes."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from reglab import data
from training.job_case import EPOCHS, Case, checkpoint, loss_and_accuracy, outputs_by_hand

LAYERS = ("hidden.0.linear.weight", "head.weight", "all")
STATISTICS = ("l1", "l2", "max", "mean", "std", "zeros", "near_zeros", "distance", "update")
GAP = {f"{part}/{score}" for part in ("train", "val", "gap") for score in ("loss", "accuracy")} | {
    "gap/loss_low", "gap/loss_high", "gap/accuracy_low", "gap/accuracy_high", "val/loss_se", "val/accuracy_se",
}  # fmt: skip
SYSTEM = {"system/seconds", "system/memory_mb"}  # and the GPU's memory where there is one
ALWAYS = GAP | SYSTEM | {f"weights/{layer}/{statistic}" for layer in LAYERS for statistic in STATISTICS}
TRAINED = {"objective/task", "naive_gap/loss", "optimizer/lr"}
FINAL = {f"final/{key}" for key in GAP | {f"weights/{statistic}" for statistic in STATISTICS} | {"epoch"}}


def wine() -> data.DataSet:
    return data.load({"name": "wine"})


def test_every_epoch_has_every_metric_and_step_0_is_the_untrained_model(shared: Any) -> None:
    case, _, result = shared
    once = {"regularizer/l1/strength", "regularizer/dropout/strength"}
    assert set(case.metrics(result.run_id)) - {"system/gpu_memory_mb"} == ALWAYS | TRAINED | FINAL | once
    assert list(case.steps(result.run_id, "regularizer/l1/strength")) == [0]
    for key in ALWAYS:
        assert sorted(case.steps(result.run_id, key)) == list(range(EPOCHS + 1))
    for key in TRAINED:
        assert sorted(case.steps(result.run_id, key)) == list(range(1, EPOCHS + 1))
    assert case.steps(result.run_id, "weights/all/distance")[0] == 0


def test_a_finished_run_says_so(shared: Any) -> None:
    case, _, result = shared
    run = case.run(result.run_id)
    assert (result.status, run.info.status, result.message) == ("FINISHED", "FINISHED", "")
    assert run.info.end_time >= run.info.start_time
    assert "training" in run.data.tags["mlflow.note.content"]


def test_the_last_row_is_the_final_one(shared: Any) -> None:
    case, _, result = shared
    metrics = case.metrics(result.run_id)
    for key in GAP:
        assert metrics[f"final/{key}"] == metrics[key] == result.metrics[key]
    for statistic in STATISTICS:
        assert metrics[f"final/weights/{statistic}"] == metrics[f"weights/all/{statistic}"]
    assert metrics["final/epoch"] == result.metrics["epoch"] == EPOCHS


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not (isinstance(node, dict) and node):
        return {prefix[:-1]: node}
    return {key: value for name, inner in node.items() for key, value in flat(inner, f"{prefix}{name}.").items()}


def test_params_are_the_config_less_where_it_is_recorded_and_never_cut(shared: Any) -> None:
    case, config, result = shared
    actual = case.run(result.run_id).data.params
    whole = flat(OmegaConf.to_container(config))
    wanted = {key: it for key, it in whole.items() if key.partition(".")[0] not in ("name", "trust", "tracking")}
    of_measures = (
        "measure.gap.",
        "measure.weights.",
        "measure.memorization.",
    )  # config.yaml has them
    wanted = {key: it for key, it in wanted.items() if not key.startswith(of_measures)}
    assert actual.keys() == wanted.keys()
    assert actual["sweep.note"] == 700 * "b"  # Lightning's logger cuts at 250
    assert float(actual["regularizer.l1.strength"]) == 1e-2
    for key, value in wanted.items():
        assert actual[key] == (value if isinstance(value, str) else json.dumps(value))


def test_tags_say_how_a_run_is_found_and_grouped(shared: Any) -> None:
    case, _, result = shared
    tags = case.run(result.run_id).data.tags
    wanted = {
        "reglab.kind": "job",
        "reglab.regularizer": "l1+dropout",
        "reglab.strength": "0.01",
        "reglab.stronger": "1",
        "reglab.seed": "0",
        "reglab.task": "classification",
        "reglab.score": "accuracy",
        "reglab.weights": "last",
        "reglab.block": 700 * "b",
        "reglab.data_digest": wine().digest,
        "mlflow.runName": "l1+dropout 0.01 seed 0",
    }
    assert {key: tags.get(key) for key in wanted} == wanted
    assert len(tags["reglab.fingerprint"]) == 16


def test_artifacts(shared: Any) -> None:
    case, config, result = shared
    folder = case.artifacts(result.run_id)
    actual = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    files = {"config.yaml", "examples.npz", "preprocessing.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert actual == files
    assert yaml.safe_load((folder / "config.yaml").read_text()) == OmegaConf.to_container(config)


def test_the_data_set_is_an_input_of_the_run(shared: Any) -> None:
    case, _, result = shared
    inputs = case.run(result.run_id).inputs.dataset_inputs
    assert {given.tags[0].value for given in inputs} == {"train", "val", "test"}
    assert all(wine().digest.startswith(given.dataset.digest) for given in inputs)


def test_both_sides_of_the_gap_equal_numpys_of_the_checkpoint(shared: Any) -> None:
    """In evaluation mode: a dropout that acted, or a penalty in the loss, would show."""
    case, _, result = shared
    state = checkpoint(case.artifacts(result.run_id) / "checkpoints" / "last.ckpt")
    for side, part in (("train", wine().train), ("val", wine().val)):
        loss, accuracy = loss_and_accuracy(outputs_by_hand(state, part.inputs), part.targets)
        assert result.metrics[f"{side}/loss"] == pytest.approx(loss, abs=1e-6)
        assert result.metrics[f"{side}/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    weights = np.concatenate([state[f"model.{name}"].double().numpy().ravel() for name in LAYERS[:2]])
    assert result.metrics["weights/l1"] == pytest.approx(np.abs(weights).sum(), rel=1e-6)
    assert result.metrics["weights/zeros"] == pytest.approx((weights == 0).mean(), abs=1e-12)
    assert result.metrics["weights/zeros"] > 0


def test_the_naive_gap_has_the_running_loss_on_its_training_side(case: Case) -> None:
    """With one step an epoch, the running loss is the training loss one epoch ago."""
    run = case.train("data.batch_size=1000", "optimizer=sgd").run_id
    naive, val, train, task = (
        case.steps(run, key) for key in ("naive_gap/loss", "val/loss", "train/loss", "objective/task")
    )
    for epoch in range(1, EPOCHS + 1):
        assert task[epoch] == pytest.approx(train[epoch - 1], abs=1e-6)
        assert naive[epoch] == pytest.approx(val[epoch] - train[epoch - 1], abs=1e-6)
        assert naive[epoch] != pytest.approx(val[epoch] - train[epoch], abs=1e-3)


def test_early_stopping_stands_for_the_best_epoch(case: Case) -> None:
    overrides = ("regularizer=[early_stopping]", "regularizer.early_stopping.patience=1")
    result = case.train(*overrides, "optimizer=sgd", "optimizer.lr=3", "trainer.max_epochs=30")
    losses = case.steps(result.run_id, "val/loss")
    trained = {epoch: loss for epoch, loss in losses.items() if epoch > 0}
    best = min(trained, key=trained.__getitem__)
    assert 1 <= best < max(trained) < 30
    assert result.metrics["epoch"] == best
    assert result.metrics["val/loss"] == pytest.approx(trained[best], rel=1e-6)
    assert result.metrics["gap/loss_low"] == pytest.approx(case.steps(result.run_id, "gap/loss_low")[best], rel=1e-6)
    assert case.run(result.run_id).data.tags["reglab.weights"] == "best"


def test_the_test_set_is_measured_only_when_asked(case: Case) -> None:
    result = case.train("measure.test=true")
    state = checkpoint(case.artifacts(result.run_id) / "checkpoints" / "last.ckpt")
    test = wine().test
    loss, accuracy = loss_and_accuracy(outputs_by_hand(state, test.inputs), test.targets)
    metrics = case.metrics(result.run_id)
    assert metrics["test/loss"] == result.metrics["test/loss"] == pytest.approx(loss, abs=1e-6)
    assert metrics["test/accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_a_score_or_a_weighted_loss_is_monitored_and_both_ways_of_judging_are_recorded(case: Case) -> None:
    watched = ("data.class_weight={class_0: 5.0}", "measure.monitor=val/weighted_loss", "measure.test=true")
    actual = case.metrics(case.train(*watched, "measure.scores=[f1]").run_id)
    ends = {f"final/gap/{name}{end}" for name in ("weighted_loss", "loss", "f1") for end in ("", "_low", "_high")}
    assert ends | {"val/weighted_loss_se", "test/weighted_loss_low", "test/f1"} < set(actual)
    assert actual["final/val/weighted_loss"] != actual["final/val/loss"]


def test_measuring_seldom_still_measures_the_last_epoch(case: Case) -> None:
    run = case.train("measure.every=2").run_id
    assert sorted(case.steps(run, "val/loss")) == [0, 2, 3]


def test_progress_is_told_for_every_epoch(case: Case) -> None:
    updates: list[Any] = []
    result = case.train(on_progress=updates.append)
    assert [(progress.epoch, progress.epochs) for progress in updates] == [
        (epoch, EPOCHS) for epoch in range(EPOCHS + 1)
    ]
    assert updates[-1].metrics["val/loss"] == result.metrics["val/loss"]


def test_without_mlflow_everything_stays_in_the_folder(case: Case) -> None:
    result = case.train("tracking=none")
    assert result.status == "FINISHED"
    assert math.isfinite(result.metrics["val/loss"])
    assert case.runs() == []
    assert len(list(case.folder.glob("runs/*/*/checkpoints/*.ckpt"))) == 2
    assert len(list(case.folder.glob("runs/*/*/journal.jsonl"))) == 1


def test_the_same_seed_gives_the_same_run_whatever_was_drawn_before(case: Case, shared: Any) -> None:
    torch.rand(7)
    overrides = ("regularizer=[l1,dropout]", "regularizer.l1.strength=1e-2")
    again, other = case.train(*overrides), case.train(*overrides, "seed=1")
    assert again.metrics == shared[2].metrics
    assert other.metrics != again.metrics
