"""``reglab.bias_variance``: bias and variance from a plain module, fused or not."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import reglab
from reglab.core.errors import UserError
from reglab.data.replicas import resampled

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(80, 3)).astype(np.float32)
TARGETS = (INPUTS @ np.array([1.0, -1.0, 0.5]) + RANDOM.normal(size=80)).astype(np.float32)
COUNTS = reglab.dataset(INPUTS, np.abs(TARGETS).round(), task="poisson")
SHORT = {"replicas": 4, "epochs": 3, "batch_size": 16, "lr": 0.05}


@pytest.fixture(scope="module")
def data() -> reglab.DataSet:
    return reglab.dataset(INPUTS, TARGETS, task="regression")


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def numbers(result: reglab.BiasVarianceResult, part: str) -> list[float]:
    return [float(row["value"]) for row in result.records if row["part"] == part and row["loss"] == "squared error"]


def test_the_parts_are_those_of_runs_that_reglab_fit_trains(data: reglab.DataSet) -> None:
    torch.manual_seed(1)
    model = network()
    before = copy.deepcopy(model.state_dict())
    result = reglab.bias_variance(model, data, [[], reglab.L2(0.3)], **SHORT)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for place, regularizers in enumerate(([], [reglab.L2(0.3)])):
        predicted, losses = [], []
        for sample in resampled(data, 4, "bootstrap"):
            fitted = reglab.fit(copy.deepcopy(model), sample, regularizers, epochs=3, batch_size=16, lr=0.05)
            losses.append(fitted.metrics["val/loss"])
            with torch.no_grad():
                predicted.append(fitted.model(data.val.tensor)[:, 0].numpy())
        assert numbers(result, "risk")[place] == pytest.approx(np.mean(losses), rel=1e-4)
        variance = np.stack(predicted).astype(np.float64).var(0, ddof=1).mean()
        assert numbers(result, "variance")[place] == pytest.approx(variance, rel=1e-3)
    assert str(result).splitlines()[0].split("  ")[0] == "Bias and variance of the squared error, 4 training samples"
    assert result.figure() is None


def test_seeds_split_the_variance(data: reglab.DataSet) -> None:
    result = reglab.bias_variance(network, data, [[]], seeds=3, resample="disjoint", **SHORT)
    sources = {str(row["part"]): float(row["value"]) for row in result.records if "variance of" in str(row["part"])}
    assert list(sources) == ["variance of training sample", "variance of seed", "variance of interactions"]
    assert sum(sources.values()) == pytest.approx(numbers(result, "variance")[0])
    assert "Variance by source" in str(result)


def test_settings_that_differ_in_no_number_stand_apart(data: reglab.DataSet) -> None:
    short = {**SHORT, "epochs": 1}
    result = reglab.bias_variance(network, data, [reglab.L2(0.1), reglab.L2(0.1, where="all")], **short)
    assert len(numbers(result, "risk")) == 2


def test_strengths_make_a_figure(data: reglab.DataSet) -> None:
    result = reglab.bias_variance(network, data, [[], *map(reglab.L2, (0.1, 0.3, 1.0))], **SHORT)
    figure = result.figure()
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["l2"]
    assert "Against none: risk" in str(result)


def test_samples_are_drawn_or_dealt_out(data: reglab.DataSet) -> None:
    rows = data.train.index.tolist()
    dealt = [sample.train.index.tolist() for sample in resampled(data, 4, "disjoint")]
    assert sorted(row for each in dealt for row in each) == sorted(rows)
    drawn = [sample.train.index.tolist() for sample in resampled(data, 4, "bootstrap")]
    assert all(len(each) == len(rows) and set(each) < set(rows) for each in drawn)
    assert len({sample.digest for sample in resampled(data, 4, "bootstrap")}) == 4


@pytest.mark.parametrize(
    "change, message",
    [
        ({"replicas": 1}, "variance needs at least 2 training samples; 20 give useful intervals"),
        ({"replicas": 100, "resample": "disjoint"}, "100 disjoint samples cannot be cut from 48 training rows"),
        ({"resample": "jackknife"}, "resample='jackknife' must be 'bootstrap' or 'disjoint'"),
        ({"seeds": 0}, "seeds=0 must be a number of seeds"),
        ({"level": 95}, "level=95 must be between 0 and 1"),
        ({"level": "high"}, "level='high' must be between 0 and 1"),
        ({"data": COUNTS}, "for squared error and cross-entropy .*, and the task is poisson"),
        ({"regularizers": []}, r"must be a list of settings, such as \[\[\], reglab.L2"),
        ({"regularizers": ["l2"]}, "a setting is a regularizer or a list of them"),
        ({"model": lambda: 3}, "must return a torch.nn.Module, and returned a int"),
        ({"data": INPUTS}, "takes a torch.nn.Module, or a function that makes one, and the data"),
    ],
)
def test_what_cannot_be_is_refused(data: reglab.DataSet, change: dict, message: str) -> None:
    given = {"model": network, "data": data, "regularizers": [[]], **SHORT, **change}
    with pytest.raises(UserError, match=message):
        reglab.bias_variance(given.pop("model"), given.pop("data"), given.pop("regularizers"), **given)
