"""``reglab.attach``: a plain loop, and Fabric's, regularized as by hand, measured by the same function, resumed."""

import copy
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import reglab
from reglab.core.errors import UserError

ROWS, FEATURES = 60, 5


def loaders(batch_size: int = 12) -> tuple[DataLoader[Any], DataLoader[Any]]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * ROWS, FEATURES, generator=generator, dtype=torch.float64)
    targets = inputs @ torch.arange(FEATURES, dtype=torch.float64) + torch.randn(2 * ROWS, generator=generator)
    parts = [TensorDataset(inputs[half], targets[half]) for half in (slice(ROWS), slice(ROWS, None))]
    train, val = (DataLoader(part, batch_size) for part in parts)
    return train, val


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(FEATURES, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1)).double()


def linear() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(FEATURES, 1).double()


def loss_of(model: Any, batch: Any) -> Tensor:
    return functional.mse_loss(model(batch[0]).squeeze(-1), batch[1])


def trained(model: nn.Module, optimizer: Any, train: Any, epochs: int = 3, clip: Any = None) -> None:
    for _ in range(epochs):
        for batch in train:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            if clip is not None:
                clip(0.5)
            optimizer.step()


@pytest.mark.parametrize("clipped", [False, True])
def test_steps_are_those_of_a_loop_by_hand(clipped: bool) -> None:
    train, _ = loaders()
    model, mine = linear(), linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    attached = reglab.attach(model, optimizer, [reglab.L2(0.1), reglab.L1(0.2)], task="regression")
    trained(model, optimizer, train, clip=attached.clip_grad_norm_ if clipped else None)
    by_hand = torch.optim.SGD(mine.parameters(), lr=0.05)
    for _ in range(3):
        for batch in train:
            by_hand.zero_grad()
            (loss_of(mine, batch) + 0.1 * mine.weight.square().sum() / 2).backward()
            norm = torch.linalg.vector_norm(torch.cat([mine.weight.grad.flatten(), mine.bias.grad]))
            factor = min(1.0, 0.5 / (float(norm) + 1e-6)) if clipped else 1.0
            for weight in mine.parameters():
                weight.grad *= factor
            by_hand.step()
            with torch.no_grad():  # the proximal step, as short as the clipped gradient makes the other one
                mine.weight.copy_(mine.weight.sign() * (mine.weight.abs() - 0.05 * 0.2 * factor).clamp(min=0))
    torch.testing.assert_close(model.weight, mine.weight, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model.bias, mine.bias, rtol=1e-10, atol=1e-10)


def test_both_sides_are_measured_alike_and_nothing_moves() -> None:
    train, val = loaders()
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    attached = reglab.attach(model, optimizer, [], task="regression")
    trained(model, optimizer, train)
    torch.manual_seed(5)
    metrics = attached.measure(train, val)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert model.training
    model.eval()
    rows: list[Any] = [each.dataset for each in (train, val)]
    with torch.no_grad():
        losses = [loss_of(model, each.tensors) for each in rows]
    assert metrics["train/loss"] == pytest.approx(float(losses[0]))
    assert metrics["val/loss"] == pytest.approx(float(losses[1]))
    assert metrics["gap/loss_low"] < metrics["gap/loss"] < metrics["gap/loss_high"]
    assert metrics["weights/all/zeros"] == 0


def test_a_loss_of_ones_own_on_any_batch() -> None:
    train, val = loaders()
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def losses(model: Any, batch: Any) -> Tensor:
        errors: Tensor = (model(batch[0]).squeeze(-1) - batch[1]).abs()
        return errors

    attached = reglab.attach(model, optimizer, [reglab.EMA(0.9)], loss=losses)
    trained(model, optimizer, train)
    metrics = attached.measure(train, val)
    rows: Any = val.dataset
    with attached.evaluating(), torch.no_grad():
        model.eval()
        wanted = losses(model, rows.tensors).mean()
    assert metrics["val/loss"] == pytest.approx(float(wanted))
    assert attached.tags["reglab.regularizer"] == "ema"


def test_a_loop_is_resumed_with_the_same_bits() -> None:
    train, val = loaders()
    members = [reglab.L1(0.05), reglab.EMA(0.9), reglab.Dropout(0.3)]
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    attached = reglab.attach(model, optimizer, copy.deepcopy(members), task="regression")
    trained(model, optimizer, train, epochs=2)
    attached.measure(train, val)
    saved = copy.deepcopy([model.state_dict(), optimizer.state_dict(), attached.state_dict()])
    trained(model, optimizer, train, epochs=2)
    wanted = attached.measure(train, val)

    resumed = net()
    again = torch.optim.Adam(resumed.parameters(), lr=0.01)
    other = reglab.attach(resumed, again, copy.deepcopy(members), task="regression")
    for holder, state in zip((resumed, again, other), saved, strict=True):
        holder.load_state_dict(state)
    trained(resumed, again, train, epochs=2)
    assert other.measure(train, val) == wanted
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in model.state_dict().items())


def test_early_stopping_says_when() -> None:
    train, val = loaders()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    attached = reglab.attach(model, optimizer, [reglab.EarlyStopping(patience=1)], task="regression")
    for _ in range(20):
        trained(model, optimizer, train, epochs=1)
        attached.measure(train, val)
        if attached.should_stop:
            break
    assert attached.should_stop
    assert len(attached.history) < 20


def test_fabric_trains_as_the_plain_loop_does() -> None:
    train, val = loaders()
    models = [net(), net()]
    optimizers = [torch.optim.Adam(each.parameters(), lr=0.01) for each in models]
    attached = [
        reglab.attach(model, optimizer, [reglab.L1(0.05), reglab.WeightDecay(0.1)], task="regression")
        for model, optimizer in zip(models, optimizers, strict=True)
    ]
    torch.manual_seed(2)
    trained(models[0], optimizers[0], train)
    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped, optimizer = fabric.setup(models[1], optimizers[1])
    torch.manual_seed(2)
    for _ in range(3):
        for batch in train:
            optimizer.zero_grad()
            fabric.backward(loss_of(wrapped, batch))
            optimizer.step()
    plain, by_fabric = (model.state_dict() for model in models)
    assert all(torch.equal(value, by_fabric[name]) for name, value in plain.items())
    assert attached[1].measure(train, val) == attached[0].measure(train, val)


def test_a_step_that_a_scaler_skips_leaves_nothing_for_the_next() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    attached = reglab.attach(model, optimizer, [reglab.L2(0.1)], task="regression")
    train, _ = loaders()
    for number, batch in enumerate(train):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        if number == 0:
            model.weight.grad.fill_(torch.nan)
        attached.clip_grad_norm_(0.5)
        if number:  # a gradient scaler skips the first step, whose gradient is not finite
            optimizer.step()
    assert model.weight.isfinite().all()


def test_removed_it_leaves_the_optimizer_alone() -> None:
    train, _ = loaders()
    models = [linear(), linear()]
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.05) for each in models]
    reglab.attach(models[1], optimizers[1], [reglab.L1(1.0)], task="regression").remove()
    for model, optimizer in zip(models, optimizers, strict=True):
        trained(model, optimizer, train)
    assert torch.equal(models[0].weight, models[1].weight)


@pytest.mark.parametrize(
    "given, told",
    [
        ({"regularizers": [reglab.SAM(0.1)], "loss": loss_of}, "only your loop has"),
        ({"regularizers": [reglab.Flooding(0.1)], "task": "regression"}, "only your loop has"),
        ({"regularizers": []}, "say what is measured"),
        ({"regularizers": [], "task": "regresion"}, "did you mean 'regression'"),
    ],
)
def test_what_cannot_act_is_refused(given: dict[str, Any], told: str) -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match=told):
        reglab.attach(model, optimizer, **given)


def test_an_optimizer_of_another_model_is_refused() -> None:
    with pytest.raises(UserError, match="holds no weight of this Linear"):
        reglab.attach(linear(), torch.optim.SGD(linear().parameters(), lr=0.1), [], task="regression")
