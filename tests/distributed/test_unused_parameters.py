"""Which weights a step's gradient does not reach, and that to ask changes nothing."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import laws_harness as harness
import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.nn import functional

from reglab.distributed.unused_parameters import unreached
from reglab.measures import example_losses
from reglab.regularizers import L2, Batch, Cocktail, Dropout, Objective, Outcome, Regularizer
from reglab.training.solo import Solo


class TwoHeads(nn.Module):
    """A net with one head for the task and one that stands by; with BatchNorm and draws of
    its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(harness.FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, harness.CLASSES)
        self.spare = nn.Linear(8, harness.CLASSES)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(functional.dropout(self.body(inputs), 0.3))


class Counts(Regularizer):
    """A member with a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def on_objective(self, objective: Objective) -> Objective:
        def counted(model: nn.Module, batch: Batch) -> Outcome:
            self.get_buffer("seen").add_(1)
            return objective(model, batch)

        return counted


def asked(members: Mapping[str, Regularizer]) -> tuple[nn.Module, Cocktail, Objective, Batch]:
    cocktail = Cocktail(members, 0, "classification")
    model = cocktail.prepare(TwoHeads())
    objective = cocktail.objective(lambda outputs, targets: example_losses(outputs, targets, "classification"))
    train = harness.blobs().train
    return model, cocktail, objective, Batch(train.inputs[:6], [(torch.ones(()), train.targets[:6])], train.index[:6])


@pytest.mark.parametrize(
    "members, names",
    [
        ({}, ["spare.weight", "spare.bias"]),
        ({"l2": L2(0.1)}, ["spare.bias"]),  # a bias is no weight to it
        ({"l2": L2(0.1, where="all")}, []),
    ],
)
def test_a_weight_is_reached_by_the_loss_or_by_a_penalty(members: Mapping[str, Regularizer], names: list[str]) -> None:
    model, cocktail, objective, batch = asked(members)
    assert unreached(model, objective, cocktail, batch) == names


class Broken(nn.Module):
    """A loss that fails after the model was computed."""

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        model(batch.inputs)
        raise ArithmeticError


@pytest.mark.parametrize("fails", [False, True])
def test_to_ask_changes_nothing(fails: bool) -> None:
    model, cocktail, objective, batch = asked({"counts": Counts(), "dropout": Dropout(0.2)})
    before = {key: value.clone() for key, value in {**model.state_dict(), **cocktail.state_dict()}.items()}
    generator = torch.random.get_rng_state()
    if fails:
        with pytest.raises(ArithmeticError):
            unreached(model, Broken(), cocktail, batch)
    else:
        unreached(model, objective, cocktail, batch)
    harness.assert_same_bits({**model.state_dict(), **cocktail.state_dict()}, before)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert cocktail.keys.index is None
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(
    "make, known, wanted",
    [
        (TwoHeads, {}, {"find_unused_parameters": True}),
        (harness.small_model, {}, {}),
        (TwoHeads, {"find_unused_parameters": False}, {"find_unused_parameters": False}),
    ],
    ids=["needed", "not needed", "said otherwise"],
)
def test_ddp_looks_for_unused_weights_only_where_there_are_some(
    make: Any, known: dict[str, Any], wanted: dict[str, Any]
) -> None:
    job = harness.experiment({}, model=make())
    module = Solo(job.model, job.cocktail, job.data.train, job.data.task, job.recipe)
    strategy = DDPStrategy(**known)
    trainer: Any = SimpleNamespace(strategy=strategy)
    module.trainer = trainer
    module.configure_model()
    assert strategy._ddp_kwargs == wanted


def test_without_ddp_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    job = harness.experiment({}, model=TwoHeads())
    module = Solo(job.model, job.cocktail, job.data.train, job.data.task, job.recipe)
    trainer: Any = SimpleNamespace(strategy=SingleDeviceStrategy("cpu"))
    module.trainer = trainer
    monkeypatch.setattr("reglab.training.solo.unreached", lambda *_: pytest.fail("it was asked"))
    module.configure_model()
