"""A loss of the user's: what a loop by hand gives, alone, in a pack, and by the command line."""

from collections.abc import Iterator
from dataclasses import replace

import fused_harness as harness
import pytest
import torch
from torch import nn
from torch.nn import functional

import reglab
from reglab.config import trust
from reglab.core.errors import UserError
from reglab.measures import MeasureSettings
from reglab.regularizers import L1, Cocktail, LabelSmoothing
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.fused.member import why_solo
from reglab.training.loader import epoch_order
from reglab.training.measured_rows import gap_rows
from reglab.training.measurement import Measurement
from reglab.training.own_loss import loss_of, with_loss
from tasks.losses_of_ours import Focal, focal, row_by_row, signed, whole_batch

MODULE = "tasks.losses_of_ours"


@pytest.fixture
def trusted() -> Iterator[None]:
    with trust.isolated():
        trust.trust("tasks")
        yield


def linear() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(13, 3).double()


def fit(loss, model, **options):
    data = reglab.dataset("wine", **options)
    trainer = {"precision": "64-true", "accelerator": "cpu"}
    done = reglab.fit(model, data, epochs=3, batch_size=16, optimizer="sgd", lr=0.1, loss=loss, trainer=trainer)
    return data, done


@pytest.mark.parametrize("loss", [focal, whole_batch, row_by_row, Focal(1.0), signed])
def test_it_trains_and_is_measured_as_in_a_loop_by_hand(loss):
    model, by_hand = linear(), linear()
    data, done = fit(loss, model)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    inputs, targets = data.train.inputs.double(), data.train.targets
    for epoch in range(3):
        for rows in epoch_order(len(targets), 0, epoch).split(16):
            optimizer.zero_grad()
            loss(by_hand(inputs[rows]), targets[rows]).mean().backward()
            optimizer.step()
    torch.testing.assert_close(model.weight, by_hand.weight, rtol=1e-9, atol=1e-12)
    if loss is not whole_batch:
        with torch.no_grad():
            losses = loss(by_hand(data.val.inputs.double()), data.val.targets)
        assert done.metrics["val/loss"] == pytest.approx(float(losses.mean()), rel=1e-9)
        assert done.metrics["gap/loss_low"] < done.gap[0] < done.metrics["gap/loss_high"]
    assert done.metrics["val/accuracy"] > 0.8


def test_a_loss_without_rows_is_measured_over_batches_on_both_sides_and_has_no_interval():
    model = linear()
    data, done = fit(whole_batch, model)
    for name, part in (("train", data.train), ("val", data.val)):
        batches = [(part.inputs[rows].double(), part.targets[rows]) for rows in torch.arange(len(part)).split(16)]
        with torch.no_grad():
            total = sum(float(whole_batch(model(x), y)) * len(y) for x, y in batches)
        assert done.metrics[f"{name}/loss"] == pytest.approx(total / len(part), rel=1e-9)
    assert all(value != value for value in done.gap[1:])
    assert "no value for each row" in str(done)


def test_a_loss_without_rows_has_an_interval_over_ten_batches():
    data = reglab.dataset("diabetes", val_size=88)
    model = nn.Linear(10, 1)
    done = reglab.fit(
        model, data, epochs=1, batch_size=8, loss=lambda outputs, targets: (outputs - targets).abs().max()
    )
    with torch.no_grad():
        errors = (model(data.val.inputs).squeeze(1) - data.val.targets).abs()
    batches = errors.reshape(11, 8).amax(1)
    assert done.metrics["val/loss"] == pytest.approx(float(batches.mean()), rel=1e-5)
    assert done.metrics["val/loss_se"] == pytest.approx(float(batches.std()) / 11**0.5, rel=1e-4)
    assert done.metrics["gap/loss_low"] < done.gap[0] < done.metrics["gap/loss_high"]


@pytest.mark.parametrize("loss", [focal, whole_batch])
def test_a_pack_trains_and_measures_it_as_each_job_alone(loss):
    def job(number):
        made = harness.job(epochs=3)
        cocktail = Cocktail({"l1": L1(10.0 ** (-4 - number))}, 0, "classification")
        data = with_loss(made.data, loss, made.model.double(), harness.BATCH)
        return replace(made, data=data, cocktail=cocktail, measure=MeasureSettings(scores=["log_loss", "auroc"]))

    fused = harness.assert_equals_solo(job, 2)
    experiments = [job(number) for number in range(2)]
    device, settings = torch.device("cpu"), experiments[0].measure
    found = PackMeasurement([each.data for each in experiments], settings, device, torch.float64).gap(fused.pack)
    for number, each in enumerate(experiments):
        solo = harness.alone(each)
        measurement = Measurement(gap_rows([each.data], settings, device, torch.float64), settings)
        expected = measurement.gap(solo.model, solo.cocktail)
        for key, value in expected.items():
            torch.testing.assert_close(found[key][number], value, rtol=1e-6, atol=1e-8, equal_nan=True, msg=key)
        inputs, targets = each.data.val.inputs.double(), each.data.val.targets
        solo.model.eval()
        log_loss = functional.cross_entropy(solo.model(inputs), targets)
        assert float(expected["val/log_loss"]) == pytest.approx(float(log_loss.detach()), rel=1e-6)


def test_a_loss_that_no_vmap_takes_trains_alone_and_says_why():
    made = harness.job()
    data = with_loss(made.data, row_by_row, made.model.double(), harness.BATCH)
    assert "the loss cannot be vmapped (" in why_solo(replace(made, data=data))
    assert why_solo(made) == ""


def test_columns_of_a_regression_are_averaged_and_its_scores_stay():
    data = reglab.dataset("diabetes")
    model = nn.Linear(10, 1)
    huber = nn.HuberLoss(reduction="none")
    done = reglab.fit(model, data, epochs=2, loss=huber)
    with torch.no_grad():
        outputs = model(data.val.inputs).squeeze(1)
    assert done.metrics["val/loss"] == pytest.approx(float(huber(outputs, data.val.targets).mean()), rel=1e-5)
    squares = (outputs - data.val.targets).square()
    assert done.metrics["val/r2"] == pytest.approx(
        1 - float(squares.mean() / data.val.targets.var(correction=0)), rel=1e-4
    )
    assert done.metrics["gap/r2_low"] < done.metrics["gap/r2_high"]


@pytest.mark.parametrize(
    "loss, message",
    [
        (3, "loss=3 is no function"),
        (nn.MSELoss, r"loss=MSELoss is a class: give an instance of it, loss=MSELoss\(\)"),
        (lambda outputs, targets: 3.0, "is float; a loss takes"),
        (lambda outputs, targets: outputs.mean(0), r"is \[3\]; a loss takes"),
        (lambda outputs, targets: (outputs.argmax(-1) != targets).float(), "no gradient by the outputs"),
        (lambda outputs: outputs.mean(), "fails on outputs"),
    ],
)
def test_what_is_no_loss_is_refused_before_training(loss, message):
    with pytest.raises(UserError, match=message):
        fit(loss, linear())


def test_what_changes_the_loss_of_the_task_or_weighs_rows_without_a_loss_is_refused():
    with pytest.raises(UserError, match="label_smoothing changes the loss of the task"):
        reglab.fit(linear(), reglab.dataset("wine"), LabelSmoothing(0.1), loss=focal)
    with pytest.raises(UserError, match="example weights cannot weigh"):
        fit(whole_batch, linear(), class_weight="balanced")


@pytest.mark.usefixtures("trusted")
def test_a_config_names_a_function_or_a_class():
    outputs, targets = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3
    for node, gamma in (
        (f"{MODULE}.focal", 2.0),
        ({"_target_": f"{MODULE}.focal", "gamma": 1.0}, 1.0),
        ({"_target_": f"{MODULE}.Focal", "gamma": 0.5}, 0.5),
    ):
        torch.testing.assert_close(loss_of(node)(outputs, targets), focal(outputs, targets, gamma))
    assert isinstance(loss_of({"_target_": "torch.nn.HuberLoss", "delta": 2.0}), nn.HuberLoss)
    assert loss_of(None) is None


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "node, message",
    [
        ("focal", "dotted path of a function"),
        (["a"], "dotted path of a function"),
        (f"{MODULE}.fokal", "did you mean"),
        (f"{MODULE}.torch", "not a subclass"),
        ("os.system", "Python's module os"),
        ("my_losses.focal", "not trusted"),
        ("torch.nn.functional.cross_entropy", "not trusted"),
        ("reglab.tasks.poisson.deviances", "not trusted"),
        ("torch.nn.Linear", "not a class that a configuration builds here"),
        ({"_target_": f"{MODULE}.focal", "outputs": 1}, "no such argument"),
        ({"_target_": f"{MODULE}.focal", "gama": 1}, "did you mean 'gamma'"),
    ],
)
def test_a_config_that_names_anything_else_is_refused(node, message):
    with pytest.raises(UserError, match=message):
        loss_of(node)


def test_jobs_without_a_loss_of_their_own_have_the_fingerprint_that_they_had():
    from reglab.config.fingerprint import computed_part

    config = {"data": {"name": "wine"}, "model": {}, "seed": 0}
    assert computed_part({**config, "loss": None}) == computed_part(config)
    assert computed_part({**config, "loss": "a.b"}) != computed_part(config)
