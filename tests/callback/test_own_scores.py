"""Scores of the user's own on both sides of the gap, against scikit-learn and by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn_metrics
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError
from torchmetrics.classification import MulticlassF1Score, MulticlassHammingDistance

from callback.own_module import CLASSES, LIGHTNING_WARNS, OwnModule, loaders, trainer
from callback.test_own_loss import cross_entropies
from callback.test_regularize import Dealt, DictBatches, SaveAtEnd
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import L2

pytestmark = LIGHTNING_WARNS


def right(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.argmax(1) == targets


def share_of_first(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.argmax(1) == 0).double().mean())


def decided(module: OwnModule) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Return predictions and targets of the training and of the validation rows."""
    pairs = [loader.dataset.tensors for loader in loaders()]  # type: ignore[attr-defined]  # a TensorDataset
    return [(module(inputs).detach().argmax(1).numpy(), targets.numpy()) for inputs, targets in pairs]


@pytest.mark.parametrize("options", [{"task": "classification"}, {"loss": cross_entropies}], ids=["task", "loss"])
@pytest.mark.parametrize("memory", [0, 256])
def test_metrics_and_functions_are_measured_on_both_sides(options: dict[str, Any], memory: int) -> None:
    f1 = MulticlassF1Score(CLASSES, average="macro")
    f1.update(torch.eye(3), torch.tensor([1, 0, 0]))  # the user's own state is neither used nor changed
    before = f1.tp.clone()
    scores = {"own_f1": f1, "right": right, "first": share_of_first}
    callback, module = Regularize([L2(0.01)], scores=scores, memory_mb=memory, **options), OwnModule()
    trainer([callback], epochs=3).fit(module, *loaders())
    assert torch.equal(f1.tp, before)
    wanted, measured = decided(module), callback.metrics
    for side, (predicted, targets) in zip(("train", "val"), wanted, strict=True):
        of_sklearn = sklearn_metrics.f1_score(targets, predicted, average="macro")
        assert measured[f"{side}/own_f1"] == pytest.approx(of_sklearn, abs=1e-6)
        assert measured[f"{side}/right"] == pytest.approx((predicted == targets).mean(), abs=1e-6)
        assert measured[f"{side}/first"] == pytest.approx((predicted == 0).mean(), abs=1e-6)
    for name in scores:
        assert measured[f"gap/{name}"] == pytest.approx(measured[f"train/{name}"] - measured[f"val/{name}"])
    assert measured["gap/right_low"] < measured["gap/right"] < measured["gap/right_high"]
    assert measured["val/right_se"] == pytest.approx(stats.sem(wanted[1][0] == wanted[1][1]), abs=1e-6)
    assert not {"gap/own_f1_low", "gap/first_low"} & set(measured)
    assert "val/loss" in measured


def test_where_lower_is_better_the_gap_has_the_other_sign() -> None:
    class Squared(MeanSquaredError):  # noqa: N818 - a metric
        def update(self, preds: Tensor, target: Tensor) -> None:
            super().update(preds, torch.nn.functional.one_hot(target, CLASSES).to(preds))

    callback = Regularize([], loss=cross_entropies, scores={"mse": Squared(), "brier": lambda out, y: out.sum()})
    trainer([callback]).fit(OwnModule(), *loaders())
    measured = callback.metrics
    for name in ("mse", "brier"):
        assert measured[f"gap/{name}"] == pytest.approx(measured[f"val/{name}"] - measured[f"train/{name}"])


def test_a_metric_in_a_list_gets_the_probabilities_of_the_task_and_reports_know_its_direction() -> None:
    listed = Regularize(
        [], "classification", scores=["auroc", MulticlassF1Score(CLASSES), MulticlassHammingDistance(3)]
    )
    named = Regularize(
        [], "classification", scores={"own": MulticlassF1Score(CLASSES), "far": MulticlassHammingDistance(3)}
    )
    for callback in (listed, named):
        trainer([callback]).fit(OwnModule(), *loaders())
    for part in ("train", "val", "gap"):
        assert listed.metrics[f"{part}/multiclass_f1_score"] == pytest.approx(named.metrics[f"{part}/own"])
        assert listed.metrics[f"{part}/multiclass_hamming_distance"] == pytest.approx(named.metrics[f"{part}/far"])
    assert {callback.run_tags()["reglab.lower"] for callback in (listed, named)} == {
        "multiclass_hamming_distance",
        "far",
    }


@pytest.mark.parametrize("memory", [0, 256])
def test_inputs_and_targets_are_unpacked_after_the_modules_own_hooks(memory: int) -> None:
    def collate(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        return {"x": torch.stack([row[0] for row in rows]) / 2, "y": torch.stack([row[1] for row in rows])}

    def unpack(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return batch["x"], batch["y"]

    train, val = (DataLoader(loader.dataset, 16, collate_fn=collate) for loader in loaders())
    results = []
    for scores in ({"right": right}, ()):
        dicts = Regularize([], "classification", scores=scores, unpack=unpack, memory_mb=memory)
        plain = Regularize([], "classification", scores=scores)
        trainer([dicts]).fit(DictBatches(), train, val)
        trainer([plain]).fit(OwnModule(), *loaders())
        assert dicts.metrics == pytest.approx(plain.metrics, abs=1e-9)
        results.append(dicts.metrics)
    assert set(results[0]) - set(results[1]) == {
        f"{part}right{end}" for part, ends in (("train/", [""]), ("val/", ["", "_se"]), ("gap/", ["", "_low", "_high"]))
        for end in ends
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*recommended to use `self.log\\('own_loss'")
@pytest.mark.parametrize("memory", [0, 256])
def test_two_ranks_score_what_one_does(tmp_path: Path, memory: int) -> None:
    ends = []
    for name, options in (("one", {}), ("two", {"strategy": "ddp_fork", "devices": 2})):
        scores = {"own_f1": MulticlassF1Score(CLASSES), "right": right, "first": share_of_first}
        path = tmp_path / f"{name}.ckpt"
        callback = Regularize([], loss=cross_entropies, scores=scores, memory_mb=memory)
        trainer([callback, SaveAtEnd(path)], **options).fit(Dealt())
        ends.append(torch.load(path, weights_only=True)["callbacks"]["Regularize"]["history"])
    for actual, wanted in zip(ends[1], ends[0], strict=True):
        assert actual == pytest.approx(wanted, abs=1e-6)
        assert 0 < actual["val/own_f1"] < 1


@pytest.mark.parametrize(
    "scores, words",
    [
        ({"loss": right}, "loss is measured already"),
        ({"accuracy": right}, "accuracy is measured already; give yours another name"),
        ({"top 5": right}, "letters, digits and underscores"),
        ({"f1": "f1"}, "must be a metric of torchmetrics or a function"),
    ],
)
def test_what_is_no_score_is_refused_at_once(scores: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Regularize([], "classification", scores=scores)


@pytest.mark.parametrize(
    "score, words",
    [
        (MulticlassF1Score(CLASSES, average="none"), r"bad gave a tensor of shape \[3\]; let it give one number \(of"),
        (lambda outputs, targets: outputs, r"let it give one number, or \[20\]"),
        (lambda outputs, targets: None, "bad gave a NoneType"),
    ],
)
def test_what_a_score_must_give_is_said_before_the_first_epoch(score: Any, words: str) -> None:
    callback = Regularize([], "classification", scores={"bad": score})
    with pytest.raises(UserError, match=words.replace("20", "48") if callable(score) else words):
        trainer([callback]).fit(OwnModule(), *loaders())
    assert not callback.history
