"""Scores of the user's: what torchmetrics says of the same rows, alone and in a pack, with a direction."""

import math

import fused_harness as harness
import pytest
import torch
from torchmetrics import classification as of_classes
from torchmetrics import regression as of_numbers
from torchmetrics.segmentation import MeanIoU

import reglab
from reglab.core import metric_direction
from reglab.core.errors import UserError
from reglab.core.metric_direction import lower_is_better
from reglab.measures import MeasureSettings, gap, side
from reglab.measures.evaluate import evaluation_of
from reglab.measures.own_scores import own_score
from reglab.tasks import task_named
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.measured_rows import gap_rows
from reglab.training.measurement import Measurement
from tasks.task_cases import case

KAPPA = {"_target_": "torchmetrics.classification.MulticlassCohenKappa", "num_classes": 4}


@pytest.fixture(autouse=True)
def _no_direction_stays(monkeypatch):
    monkeypatch.setattr(metric_direction, "_lower", set())


@pytest.mark.parametrize(
    "task, metric, direct",
    [
        ("classification", of_classes.MulticlassCohenKappa(4), lambda o, t: (o.softmax(-1), t)),
        ("binary", of_classes.BinaryCalibrationError(), lambda o, t: (o.sigmoid()[:, 0], t.long())),
        ("multilabel", of_classes.MultilabelRankingLoss(3), lambda o, t: (o.sigmoid(), t.long())),
        ("regression", of_numbers.ConcordanceCorrCoef(), lambda o, t: (o[:, 0], t)),
        ("segmentation", of_classes.MulticlassF1Score(3, ignore_index=-100), lambda o, t: (o.softmax(1), t)),
        (
            "next_token",
            of_classes.MulticlassF1Score(5, ignore_index=-100),
            lambda o, t: (o.softmax(2).movedim(2, 1), t),
        ),
    ],
)
def test_it_is_what_torchmetrics_says(task, metric, direct):
    outputs, targets = case(task)
    measured = side(evaluation_of(outputs, targets, task), task)
    score = own_score(metric)
    found = gap(measured, measured._replace(left=0.5), task, scores=[score])
    metric.reset()
    assert float(found[f"val/{score}"]) == pytest.approx(float(metric(*direct(outputs, targets))), abs=1e-6)
    assert math.isnan(found[f"gap/{score}_low"])
    assert lower_is_better(f"val/{score}") is not metric.higher_is_better


def test_each_member_of_a_pack_has_the_score_that_it_has_alone():
    experiments = [harness.job(seed=seed, epochs=2) for seed in range(2)]
    fused = harness.together(experiments)
    settings = MeasureSettings(scores=[{**KAPPA, "num_classes": 3}, "kappa"])
    datas, device = [each.data for each in experiments], torch.device("cpu")
    found = PackMeasurement(datas, settings, device, torch.float64).gap(fused.pack)
    torch.testing.assert_close(found["val/multiclass_cohen_kappa"], found["val/kappa"], atol=1e-6, rtol=0)
    for number in range(2):
        solo = harness.alone(harness.job(seed=number, epochs=2))
        rows = gap_rows([datas[number]], settings, device, torch.float64)
        expected = Measurement(rows, settings).gap(solo.model, solo.cocktail)
        for key in ("train/multiclass_cohen_kappa", "val/multiclass_cohen_kappa"):
            torch.testing.assert_close(found[key][number], expected[key], atol=1e-7, rtol=0)


def test_one_that_is_better_when_it_is_lower_decides_which_epoch_is_best():
    data = reglab.dataset("breast_cancer")
    measure = MeasureSettings(scores=[of_classes.BinaryHammingDistance()], monitor="val/binary_hamming_distance")
    assert measure.tags == {"reglab.lower": "binary_hamming_distance"}
    fit = reglab.fit(torch.nn.Linear(30, 1), data, reglab.EarlyStopping(30), epochs=6, lr=0.02, measure=measure)
    history = fit.history["val/binary_hamming_distance"]
    assert fit.metrics["val/binary_hamming_distance"] == min(value for epoch, value in history.items() if epoch)
    assert fit.metrics["gap/binary_hamming_distance"] == pytest.approx(
        fit.metrics["val/binary_hamming_distance"] - fit.metrics["train/binary_hamming_distance"], abs=1e-6
    )


def test_a_name_and_a_direction_may_be_given():
    score = own_score({**KAPPA, "name": "agreement", "higher": False})
    assert (score.name, score.higher, lower_is_better("val/agreement")) == ("agreement", False, True)
    assert score == own_score({**KAPPA, "name": "agreement", "higher": False})
    assert score != own_score({**KAPPA, "num_classes": 3, "name": "agreement", "higher": False})
    MeasureSettings(scores=[score], monitor="val/agreement").check("classification", weighted=False)
    metric_direction.declare("accuracy", higher=False)  # what a store says of our own names does not count
    assert not lower_is_better("val/accuracy")


@pytest.mark.parametrize(
    "given, message",
    [
        (3, "neither the name of a score nor a torchmetrics.Metric"),
        ({"_target_": "torchmetrics.text.BERTScore"}, "torchmetrics is not trusted"),
        ({"_target_": "torch.nn.Linear"}, "not a subclass"),
        ({"_target_": "torchmetrics.classification.MulticlassKappa"}, "did you mean"),
        (
            {"_target_": "torchmetrics.classification.MulticlassConfusionMatrix", "num_classes": 3},
            "add higher: true or",
        ),
        ({**KAPPA, "name": "accuracy"}, "'accuracy' is taken"),
        ({**KAPPA, "name": "a/b"}, "'a/b' is taken or no name"),
    ],
)
def test_what_is_no_score_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        own_score(given)


def test_a_metric_of_several_values_or_of_another_task_is_refused():
    outputs, targets = case("classification")
    measured = side(evaluation_of(outputs, targets, "classification"), "classification")
    task = task_named("classification")
    with pytest.raises(UserError, match=r"is \[4\] values, and a score is one"):
        own_score(of_classes.MulticlassAccuracy(4, average=None)).estimate(measured, task)
    with pytest.raises(UserError, match="fails on probabilities or outputs"):
        own_score(MeanIoU(4)).estimate(measured, task)
