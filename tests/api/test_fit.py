"""reglab as a library: what ten lines of Python give, and that they are the command line's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassF1Score

import reglab
from reglab import models
from training.job_case import EPOCHS, Case, loss_and_accuracy

FAST: dict[str, Any] = {
    "epochs": EPOCHS,
    "lr": 1e-2,
    "trainer": {"accelerator": "cpu"},
    "measure": reglab.MeasureSettings(),
}


def net(inputs: int = 13, outputs: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def test_a_plain_module_is_trained_in_place_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, data = net(), reglab.dataset("wine")
    before = model[0].weight.detach().clone()
    fit = reglab.fit(model, data, [reglab.L1(1e-2), reglab.Dropout(0.2)], **FAST)
    assert fit.model is model
    assert not torch.equal(model[0].weight, before)
    model.eval()
    with torch.no_grad():
        loss, accuracy = loss_and_accuracy(model(data.val.inputs).double().numpy(), data.val.targets)
    assert fit.metrics["val/loss"] == pytest.approx(loss, abs=1e-6)
    assert fit.metrics["val/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert fit.metrics["weights/zeros"] > 0
    assert fit.gap == tuple(fit.metrics[f"gap/loss{end}"] for end in ("", "_low", "_high"))
    assert "verfit" in str(fit)
    assert fit.run_id is None
    assert list(tmp_path.iterdir()) == []


def test_history_is_every_metric_by_epoch_from_0() -> None:
    fit = reglab.fit(net(), reglab.dataset("wine"), **FAST)
    assert sorted(fit.history["val/loss"]) == [0, 1, 2, 3]
    assert sorted(fit.history["objective/task"]) == [1, 2, 3]
    assert fit.history["val/loss"][EPOCHS] == fit.metrics["val/loss"]
    assert fit.metrics["epoch"] == EPOCHS


def test_it_gives_what_the_command_line_gives(case: Case) -> None:
    words = ["regularizer=[l1,dropout]", "regularizer.l1.strength=1e-2", "regularizer.dropout.strength=0.2", "seed=3"]
    result = case.train(*words)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = models.build({"_target_": "reglab.models.MLP", "width": 6, "depth": 1}, (13,), 3)
    fit = reglab.fit(model, reglab.dataset("wine"), [reglab.L1(1e-2), reglab.Dropout(0.2)], seed=3, **FAST)
    assert fit.metrics == result.metrics


def test_tracking_makes_an_mlflow_run_whose_model_loads(case: Case) -> None:
    fit = reglab.fit(net(), reglab.dataset("wine"), [reglab.EMA(0.9)], tracking=case.uri, experiment="mine", **FAST)
    assert fit.run_id is not None
    run = case.run(fit.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["final/val/loss"] == fit.metrics["val/loss"]
    assert run.data.tags["reglab.regularizer"] == "ema"
    assert float(run.data.params["regularizer.ema.strength"]) == 0.9
    assert case.client.get_experiment(run.info.experiment_id).name == "mine"
    with pytest.raises(reglab.UserError, match="made in Python"):
        reglab.load(fit.run_id)
    loaded = reglab.load(fit.run_id, model=net())
    data = reglab.dataset("wine")
    with torch.no_grad():
        loss, _ = loss_and_accuracy(loaded(data.val.inputs).double().numpy(), data.val.targets)
    assert fit.metrics["val/loss"] == pytest.approx(loss, abs=1e-6)


def test_a_schedule_and_groups_are_those_of_the_command_line() -> None:
    groups = [{"where": "2.*", "lr_scale": 0.5}, {"where": "0.bias", "frozen": True}]
    optimizer = {"_target_": "torch.optim.Adam", "lr": 1e-2, "groups": groups}
    model = net()
    before = model[0].bias.detach().clone()
    fit = reglab.fit(
        model, reglab.dataset("wine"), optimizer=optimizer, scheduler="CosineAnnealingLR", **FAST | {"lr": None}
    )
    rates = fit.history["optimizer/lr"]
    assert rates[max(rates)] < 0.5 * rates[min(rates)]
    assert torch.equal(model[0].bias, before)
    for wrong, told in (
        ("CosineAnealingLR", "did you mean 'CosineAnnealingLR'"),
        ({"T_max": 3}, "no mapping with _target_"),
        (3, "give its name"),
    ):
        with pytest.raises(reglab.UserError, match=told):
            reglab.fit(net(), reglab.dataset("wine"), scheduler=wrong, **FAST)


def test_members_by_name_and_optimizers_by_name_in_any_case() -> None:
    members = {"first": reglab.L2(1e-2), "second": reglab.L2(1e-2)}
    fit = reglab.fit(net(), reglab.dataset("wine"), members, optimizer="RMSprop", **FAST)
    assert {"objective/first", "objective/second"} <= fit.history.keys()


@pytest.mark.parametrize(
    "model, given, message",
    [
        (net(inputs=12), {}, r"inputs \[rows, 13\], 3 outputs wanted for a classification task"),
        (net(outputs=2), {}, "3 outputs wanted"),
        (net(), {"optimizer": "adan"}, "did you mean 'adam'"),
        (net(), {"lr": -1.0}, "optimizer.lr must be > 0, got -1"),
        (net(), {"optimizer": {"_target_": "torch.optim.Adam", "rl": 1}}, "optimizer.rl"),
        (net(), {"epochs": 0}, "must be an integer >= 1, got 0"),
        (net(), {"seed": -1}, "seed"),
        (net(), {"regularizers": [reglab.EMA(0.9), reglab.EMA(0.5)]}, "both own the weight average"),
        (net(), {"trainer": {"acelerator": "cpu"}}, "did you mean 'accelerator'"),
        (net(), {"measure": reglab.MeasureSettings(monitor="val/r2")}, "measure.monitor=val/r2"),
    ],
)
def test_bad_input_is_told_before_training(case: Case, model: nn.Module, given: dict[str, Any], message: str) -> None:
    before = [weight.detach().clone() for weight in model.parameters()]
    with pytest.raises(reglab.UserError, match=message):
        reglab.fit(model, reglab.dataset("wine"), **{**FAST, "tracking": case.uri, **given})
    assert all(torch.equal(weight, was) for weight, was in zip(model.parameters(), before, strict=True))
    assert case.runs() == []


def test_a_class_and_swapped_arguments_are_refused() -> None:
    data: Any = reglab.dataset("wine")
    model: Any = nn.Linear
    with pytest.raises(reglab.UserError, match="got the class Linear and a DataSet"):
        reglab.fit(model, data)
    with pytest.raises(reglab.UserError, match="in this order; got a DataSet and a Sequential"):
        reglab.fit(data, net())


def test_the_user_s_own_arrays() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(90, 4))
    targets = inputs @ [1.0, -1.0, 0.0, 2.0] + 0.1 * generator.normal(size=90)
    fit = reglab.fit(net(4, 1), reglab.dataset(inputs, targets), [reglab.WeightDecay(1e-3)], **{**FAST, "epochs": 30})
    assert fit.metrics["val/r2"] > 0.5 > fit.history["val/r2"][0]


def test_a_diverging_loss_is_raised_and_recorded(case: Case) -> None:
    with pytest.raises(reglab.Diverged, match="learning rate of 1e\\+06"):
        reglab.fit(net(10, 1), reglab.dataset("diabetes"), optimizer="sgd", tracking=case.uri, **FAST | {"lr": 1e6})
    assert [run.info.status for run in case.runs()] == ["FAILED"]


def test_the_model_may_be_of_double_precision() -> None:
    model = net().double()
    fit = reglab.fit(model, reglab.dataset("wine"), [reglab.L1(1e-3)], **FAST)
    assert all(weight.dtype == torch.float64 for weight in model.parameters())
    assert fit.metrics["val/loss"] < fit.history["val/loss"][0]


class Odd(nn.Module):
    """Fails in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            raise ZeroDivisionError("a bug of the user's own")
        outputs: Tensor = self.inner(inputs)
        return outputs


def test_the_user_s_own_bug_comes_through_as_it_is(case: Case) -> None:
    with pytest.raises(ZeroDivisionError, match="the user's own"):
        reglab.fit(Odd(), reglab.dataset("wine"), tracking=case.uri, **FAST)
    assert [run.info.status for run in case.runs()] == ["FAILED"]


def test_the_model_has_the_averaged_weights_that_its_metrics_speak_of() -> None:
    found = reglab.dataset("wine")
    model = torch.nn.Linear(13, 3)
    fitted = reglab.fit(model, found, [reglab.EMA(0.95)], epochs=3, lr=0.05)
    own = torch.nn.functional.cross_entropy(model(found.val.inputs), found.val.targets)
    assert float(own.detach()) == pytest.approx(fitted.metrics["val/loss"], rel=1e-6)


@pytest.mark.parametrize("wrong", [["l1"], "l1", 3, {"a": "l1"}])
def test_what_is_no_regularizer_is_refused(wrong: Any) -> None:
    with pytest.raises(reglab.UserError, match="regularizers must be a list of regularizers"):
        reglab.fit(torch.nn.Linear(13, 3), reglab.dataset("wine"), wrong)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"experiment": "mine"}, "experiment='mine' is where a run is recorded, and none is"),
        ({"measure": {"every": 2}}, "give reglab.MeasureSettings"),
        ({"trainer": "gpu"}, "give a mapping, such as"),
        ({"measure": reglab.MeasureSettings(scores=[MulticlassF1Score(3, average=None)])}, r"is \[3\] values"),
        ({"measure": reglab.MeasureSettings(scores=[MulticlassF1Score(5)])}, "multiclass_f1_score fails on"),
    ],
)
def test_an_argument_without_effect_is_refused_before_training(given: Any, message: str) -> None:
    model = net()
    with pytest.raises(reglab.UserError, match=message):
        reglab.fit(model, reglab.dataset("wine"), **given)
    assert torch.equal(model[0].weight, net()[0].weight)
    with pytest.raises(reglab.UserError, match=r"batch_size is of training: reglab.fit"):
        reglab.dataset("wine", batch_size=64)


def test_the_test_part_is_measured_where_it_is_asked_for() -> None:
    model, data = net(), reglab.dataset("wine")
    found = reglab.fit(model, data, epochs=1, measure=reglab.MeasureSettings(test=True)).metrics
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model.eval()(data.test.inputs), data.test.targets)
    assert found["test/loss"] == pytest.approx(float(loss), rel=1e-5)


def test_one_regularizer_need_not_stand_in_a_list() -> None:
    fitted = reglab.fit(torch.nn.Linear(13, 3), reglab.dataset("wine"), reglab.L1(10.0), epochs=30)
    assert fitted.metrics["weights/zeros"] > 0.5


def test_a_loss_that_is_lost_in_the_last_update_has_diverged() -> None:
    with pytest.raises(reglab.Diverged, match="stopped being finite"):
        # One step, whose loss was finite: squares of weights of 1e30 are not.
        reglab.fit(
            torch.nn.Linear(10, 1), reglab.dataset("diabetes"), epochs=1, optimizer="sgd", lr=1e30, batch_size=999
        )
