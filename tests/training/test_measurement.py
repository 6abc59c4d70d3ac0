"""What is measured after an epoch, on made-up models whose answers are known."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reglab import data
from reglab.data import DataSet
from reglab.measures import MeasureSettings
from reglab.regularizers import EMA, L1, Cocktail, Regularizer
from reglab.training.measured_rows import gap_rows
from reglab.training.measurement import Measurement
from training.job_case import loss_and_accuracy


def wine(**options: object) -> DataSet:
    return data.load({"name": "wine", **options})


def measurement(given: DataSet, **settings: object) -> Measurement:
    chosen = MeasureSettings(**settings)
    return Measurement(gap_rows([given], chosen, torch.device("cpu"), torch.float32), chosen)


def cocktail(*members: Regularizer) -> Cocktail:
    return Cocktail({f"m{number}": member for number, member in enumerate(members)}, 0, "classification")


def net(*extra: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(13, 8), *extra, nn.Tanh(), nn.Linear(8, 3))


def test_both_sides_are_evaluated_alike_and_nothing_is_moved() -> None:
    given, model = wine(), net(nn.BatchNorm1d(8), nn.Dropout(0.5))
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    actual = measurement(given).gap(model, cocktail())
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        sides = {
            side: loss_and_accuracy(model(part.inputs).double().numpy(), part.targets)
            for side, part in (("train", given.train), ("val", given.val))
        }
    for side, (loss, accuracy) in sides.items():
        assert float(actual[f"{side}/loss"]) == pytest.approx(loss, abs=1e-6)
        assert float(actual[f"{side}/accuracy"]) == pytest.approx(accuracy, abs=1e-6)
    assert float(actual["gap/loss"]) == pytest.approx(sides["val"][0] - sides["train"][0], abs=1e-6)
    assert float(actual["gap/accuracy"]) == pytest.approx(sides["train"][1] - sides["val"][1], abs=1e-6)


def test_the_probe_is_a_fixed_part_of_the_training_rows() -> None:
    given = wine()
    first, second = measurement(given, probe_rows=20).rows, measurement(given, probe_rows=20).rows
    assert first is not None
    assert second is not None
    assert torch.equal(first.probe.inputs.values, second.probe.inputs.values)
    assert first.probe.inputs.length == 20
    rows = {tuple(row) for row in given.train.inputs.tolist()}
    assert {tuple(row) for row in first.probe.inputs.values.tolist()} <= rows
    assert torch.equal(first.val.inputs.values, given.val.inputs)


def test_averaged_weights_are_what_is_judged() -> None:
    given, model, members = wine(), net(), cocktail(EMA(0.5))
    members.prepare(model)
    average = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    measure = measurement(given)
    measure.begin(model)
    members.after_step(model, {})  # the first update takes the weights as they are
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    members.after_step(model, {})
    untrained = float(measure.gap(net(), cocktail())["val/loss"])
    actual, bare = measure.gap(model, members), measure.gap(model, cocktail())
    assert float(bare["val/loss"]) == pytest.approx(math.log(3), abs=1e-6)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(average[name] * (2 / 11))  # its second decay is 2 / (2 + 9)
    assert float(actual["val/loss"]) == pytest.approx(float(measure.gap(model, cocktail())["val/loss"]), abs=1e-6)
    assert float(actual["val/loss"]) != pytest.approx(untrained, abs=1e-4)


def test_zeros_of_the_trained_weights_are_told_beside_those_of_their_average() -> None:
    model, average = net(), EMA(0.5)
    members = cocktail(L1(1e-3), average)
    members.prepare(model)
    measure = measurement(wine())
    measure.begin(model)
    start = torch.cat([weight.detach().flatten() for weight in (model[0].weight, model[2].weight)]).numpy()
    average.on_step(model, {})
    with torch.no_grad():
        model[0].weight.zero_()
    average.on_step(model, {})
    actual = measure.weights(model, members)
    assert float(actual["weights/all/zeros"]) == pytest.approx(104 / 128)
    assert float(actual["weights/0.weight/zeros"]) == 1
    assert float(actual["weights/averaged/zeros"]) == 0
    average = np.concatenate([2 / 11 * start[:104], start[104:]]).astype(np.float64)
    assert float(actual["weights/averaged/l2"]) == pytest.approx(np.linalg.norm(average), rel=1e-6)
    assert float(actual["weights/averaged/distance"]) == pytest.approx(np.linalg.norm(9 / 11 * start[:104]), rel=1e-6)


def test_distance_is_from_the_start_and_update_from_the_last_measurement() -> None:
    model, measure = net(), measurement(wine(), per_layer=False)
    measure.begin(model)
    start = model[0].weight.detach().double().numpy().copy(), model[2].weight.detach().double().numpy().copy()
    norm = math.sqrt(sum((weight**2).sum() for weight in start))
    actual = []
    for factor in (1.0, 1.5, 2.0):
        with torch.no_grad():
            for layer, weight in zip((0, 2), start, strict=True):
                model[layer].weight.copy_(torch.from_numpy(weight * factor))
        actual.append(measure.weights(model, cocktail()))
    assert [float(row["weights/all/distance"]) for row in actual] == pytest.approx([0, norm / 2, norm], rel=1e-5)
    assert [float(row["weights/all/update"]) for row in actual] == pytest.approx([0, 1 / 2, 1 / 3], rel=1e-5)
    assert not any("0.weight" in key for key in actual[0])


class Memory(nn.Module):
    """Says for each training row the label that it is told, and class 0 for any other."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.known = {tuple(row): label for row, label in zip(inputs.tolist(), labels.tolist(), strict=True)}
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        labels = torch.tensor([self.known.get(tuple(row), 0) for row in inputs.tolist()])
        return nn.functional.one_hot(labels, 3).float() + 0 * self.anchor


def test_memorization_is_the_share_of_corrupted_rows_fitted_to_their_wrong_label() -> None:
    given = wine(label_noise=0.3)
    train = given.train
    assert 0.2 < float(train.corrupted.float().mean()) < 0.4
    measure = measurement(given)
    for labels, share in ((train.targets, 1.0), (train.clean_targets, 0.0)):
        actual = measure.gap(Memory(train.inputs, labels), cocktail())
        assert float(actual["memorization/fitted"]) == share
    half = torch.where(torch.arange(len(train)) % 2 == 0, train.targets, train.clean_targets)
    wanted = float((half == train.targets)[train.corrupted].double().mean())
    assert float(measure.gap(Memory(train.inputs, half), cocktail())["memorization/fitted"]) == pytest.approx(wanted)
    assert "memorization/fitted" not in measurement(wine()).gap(net(), cocktail())


def test_it_measures_in_the_model_s_precision() -> None:
    given = wine()
    model = net().double()
    settings = MeasureSettings()
    measure = Measurement(gap_rows([given], settings, torch.device("cpu"), torch.float64), settings)
    actual = measure.gap(model, cocktail())
    with torch.no_grad():
        loss, _ = loss_and_accuracy(model(given.val.inputs.double()).numpy(), given.val.targets)
    assert float(actual["val/loss"]) == pytest.approx(loss, abs=1e-14)


def test_a_probe_without_corrupted_rows_tells_no_memorization() -> None:
    given = wine(label_noise=0.3)
    clean = dataclasses.replace(given.train, corrupted=torch.zeros_like(given.train.corrupted))
    assert "memorization/fitted" not in measurement(dataclasses.replace(given, train=clean)).gap(net(), cocktail())
