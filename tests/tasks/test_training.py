"""Each task trains from arrays, alone and in a pack alike, and is measured alike."""

from dataclasses import replace

import fused_harness as harness
import pytest
import torch
from torch import Tensor, nn

import reglab
from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.regularizers import L1, Cocktail
from reglab.tasks import task_named
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.measured_rows import gap_rows
from reglab.training.measurement import Measurement
from tasks.task_cases import MULTI, case

NEW = ("poisson", "quantile", "ordinal", "segmentation", "next_token", "survival(4)", MULTI, "ranking")


def dataset(task: str) -> DataSet:
    """Inputs from which the targets can be read, with noise."""
    outputs, targets = case(task, 200 if task.startswith("survival") else 80)
    if task == "next_token":
        return reglab.dataset(outputs.argmax(-1), targets, task=task)
    if task == MULTI:
        task = {"price": "regression", "sold": "2*binary", "size": "ordinal", "kind": "0.5*classification"}
    return reglab.dataset(outputs, targets, task=task)


class Segments(nn.Sequential):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1))


def model(data: DataSet) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if data.task == "segmentation":
            return Segments(data.input_shape[0], data.outputs)
        if data.task == "next_token":
            return nn.Sequential(nn.Embedding(data.tokens, 6), nn.Linear(6, data.outputs))
        return nn.Sequential(nn.Linear(data.input_shape[-1], 6), nn.Tanh(), nn.Linear(6, data.outputs))


def job(task: str, number: int, optimizer=harness.ADAM):
    data = dataset(task)
    made = harness.job(model=model(data), data=data, optimizer=optimizer, epochs=3)
    members = {"l1": L1(10.0 ** (-4 - number))}
    measure = MeasureSettings(scores=task_named(task).scores)
    return replace(made, cocktail=Cocktail(members, 0, task), measure=measure)


@pytest.mark.parametrize("task", NEW)
def test_a_pack_trains_and_measures_as_each_job_alone(task):
    fused = harness.assert_equals_solo(lambda number: job(task, number), 2)
    experiments = [job(task, number) for number in range(2)]
    device, settings = torch.device("cpu"), experiments[0].measure
    datas = [each.data for each in experiments]
    found = PackMeasurement(datas, settings, device, torch.float64).gap(fused.pack)
    for number in range(2):
        solo = harness.alone(experiments[number])
        measurement = Measurement(gap_rows([datas[number]], settings, device, torch.float64), settings)
        expected: dict[str, Tensor] = measurement.gap(solo.model, solo.cocktail)
        assert list(expected) == list(found)
        for key, value in expected.items():
            torch.testing.assert_close(found[key][number], value, rtol=1e-6, atol=1e-7, msg=key)


@pytest.mark.parametrize("task", NEW)
def test_fit_learns_and_says_what_it_measured(task):
    data = dataset(task)
    fit = reglab.fit(model(data), data, reglab.L2(1e-4), epochs=12, lr=0.03, batch_size=16)
    own = task_named(task)
    assert fit.history["train/loss"][12] < fit.history["train/loss"][1]
    assert {f"gap/{name}" for name in ("loss", own.score, *own.also)} <= set(fit.metrics)
    low, high = fit.metrics["gap/loss_low"], fit.metrics["gap/loss_high"]
    assert low < fit.gap[0] < high


@pytest.mark.parametrize("task", ["poisson", "segmentation"])
def test_what_a_regularizer_cannot_do_with_a_task_is_refused_by_name(task):
    data = dataset(task)
    with pytest.raises(reglab.UserError, match=f"label_smoothing does not fit a {task} task; it fits: binary"):
        reglab.fit(model(data), data, reglab.LabelSmoothing(0.1))
