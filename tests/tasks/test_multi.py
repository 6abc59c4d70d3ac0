"""Several targets: each is measured as it would be alone, and their losses are added by weight."""

import pytest
import sklearn.metrics
import torch
from torch.nn import functional

import reglab
from reglab.core.errors import UserError
from reglab.measures import MeasureSettings, gap, side
from reglab.measures.evaluate import evaluation_of
from reglab.tasks import task_named
from reglab.training.loader import epoch_order
from tasks.task_cases import MULTI, case

NAMES = {"price": "regression", "sold": "binary", "size": "ordinal", "kind": "classification"}


def sides(name, outputs, targets, units=None):
    evaluation = evaluation_of(outputs, targets, name)
    weights = torch.linspace(0.5, 1.5, len(targets), dtype=torch.float64)
    return side(evaluation, name, 0.5, weights, units), side(evaluation, name, 1.0, weights, units)


def test_each_target_is_measured_as_it_is_alone():
    outputs, targets = case(MULTI)
    task, units = task_named(MULTI), torch.tensor([7.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    found = gap(*sides(MULTI, outputs, targets, units), task, scores=task.others)
    for name, of_target in NAMES.items():
        own_outputs, own_targets = case(of_target)
        own = task_named(of_target)
        alone = gap(*sides(of_target, own_outputs, own_targets, units[:1]), own, scores=own.scores)
        for key, value in alone.items():
            part, _, metric = key.partition("/")
            torch.testing.assert_close(found[f"{part}/{name}/{metric}"], value, equal_nan=True, msg=key)


def test_the_loss_is_the_sum_by_weight():
    outputs, targets = case(MULTI)
    found = gap(*sides(MULTI, outputs, targets), MULTI)
    squared = sklearn.metrics.mean_squared_error(targets[:, 0], outputs[:, 0])
    binary = sklearn.metrics.log_loss(targets[:, 1], outputs[:, 1].sigmoid())
    kind = sklearn.metrics.log_loss(targets[:, 3], outputs[:, 5:].softmax(1))
    rest = float(found["val/size/loss"])
    assert float(found["val/loss"]) == pytest.approx(squared + 2 * binary + rest + 0.5 * kind, rel=1e-9)
    assert found["gap/loss_low"] < found["gap/loss"] < found["gap/loss_high"]


def test_fit_trains_the_sum_as_a_loop_by_hand():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, 3, generator=generator)
    targets = torch.stack([50 + 9 * inputs[:, 0], (inputs[:, 1] > 0).float()], 1)
    data = reglab.dataset(inputs, targets, task={"price": "regression", "sold": "3*binary"})
    assert (data.task, data.outputs, data.target_names) == (
        "multi(price=regression,sold=3*binary)",
        2,
        ("price", "sold"),
    )
    torch.testing.assert_close(data.train.targets[:, 0].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert set(data.train.targets[:, 1].tolist()) == {0.0, 1.0}
    assert "target_std.price" in data.summary
    assert "target_std.sold" not in data.summary
    model, by_hand = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    by_hand.load_state_dict(model.state_dict())
    monitor = MeasureSettings(scores=["sold/auroc"], monitor="val/price/rmse")
    fit = reglab.fit(model, data, epochs=2, batch_size=20, optimizer="sgd", lr=0.1, measure=monitor)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for epoch in range(2):
        for rows in epoch_order(len(data.train), 0, epoch).split(20):
            optimizer.zero_grad()
            outputs, wanted = by_hand(data.train.inputs[rows]), data.train.targets[rows]
            loss = functional.mse_loss(outputs[:, 0], wanted[:, 0])
            (loss + 3 * functional.binary_cross_entropy_with_logits(outputs[:, 1], wanted[:, 1])).backward()
            optimizer.step()
    torch.testing.assert_close(model.weight, by_hand.weight, rtol=1e-5, atol=1e-6)
    outputs = by_hand(data.val.inputs).detach()
    error = (outputs[:, 0] - data.val.targets[:, 0]).square().mean().sqrt() * data.target_scale[0]
    assert fit.metrics["val/price/rmse"] == pytest.approx(float(error), rel=1e-4)
    auroc = sklearn.metrics.roc_auc_score(data.val.targets[:, 1], outputs[:, 1])
    assert fit.metrics["val/sold/auroc"] == pytest.approx(auroc, abs=1e-6)


def test_a_table_names_the_task_of_each_target(tmp_path):
    path = tmp_path / "houses.csv"
    rows = [f"{i * 7 % 50},{i % 3},{i * 11 % 40}.5,{'yes' if i % 2 else 'no'},{'abc'[i % 3]}" for i in range(60)]
    path.write_text("\n".join(["a,b,price,sold,kind", *rows]))
    tasks = {"sold": "binary", "price": "regression", "kind": "classification"}
    data = reglab.dataset("table", path=str(path), task=tasks)
    assert data.task == "multi(sold=binary,price=regression,kind=classification:3)"
    assert (data.feature_names, data.outputs) == (("a", "b"), 5)
    assert data.val.targets[:, 0].tolist() == [float(i % 2) for i in data.val.index]
    assert data.val.targets[:, 2].tolist() == [float(i % 3) for i in data.val.index]
    with pytest.raises(UserError, match=r"data.task names sold, price, kind, and data.target price: name the same"):
        reglab.dataset("table", path=str(path), task=tasks, target="price")


def test_weights_are_part_of_the_name_as_they_are():
    for text in ("multi(a=0.123456789*regression,b=1e-07*binary)", "multi(a=regression,q=quantile(0.1,0.9))"):
        assert task_named(text).name == text
    assert task_named("multi(a = 2.0*regression , b=binary)").name == "multi(a=2*regression,b=binary)"


@pytest.mark.parametrize(
    "task, message",
    [
        ({"a": "regression"}, "the targets have 2 columns, and task= names 1"),
        ({"a": "auto", "b": "binary"}, "name the task of a, such as regression"),
        ({"a": "regresion", "b": "binary"}, "did you mean 'regression'"),
        ({"a": "-2*regression", "b": "binary"}, "is no target and its task"),
        ({"a": "0*regression", "b": "binary"}, "the weight of a must be above 0"),
        ({"a": "survival", "b": "binary"}, "a cannot be of the task survival beside other targets"),
        ({"a": "segmentation", "b": "binary"}, "a cannot be of the task segmentation beside other targets"),
        ({"a/b": "regression", "b": "binary"}, "the column's name in letters"),
        ("multi(a=regression", "does not end"),
        ("multi(a=regression,a=binary)", "names a target twice"),
        ("multi()", "needs a target"),
    ],
)
def test_what_are_no_tasks_of_targets_is_refused(task, message):
    targets = torch.stack([torch.arange(40.0), torch.arange(40) % 2], 1)
    with pytest.raises(UserError, match=message):
        reglab.dataset(torch.randn(40, 3), targets, task=task)


def test_scores_are_of_a_target_and_a_loss_of_ones_own_is_refused():
    targets = torch.stack([torch.arange(40.0), torch.arange(40) % 2], 1)
    data = reglab.dataset(torch.randn(40, 3), targets, task={"a": "regression", "b": "binary"})
    with pytest.raises(UserError, match="say of which target: b/auroc"):
        reglab.fit(torch.nn.Linear(3, 2), data, measure=MeasureSettings(scores=["auroc"]))
    with pytest.raises(UserError, match="a loss of your own judges one target"):
        reglab.fit(torch.nn.Linear(3, 2), data, loss=lambda outputs, targets: outputs.mean())
