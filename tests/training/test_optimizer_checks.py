"""Optimizers of other packages, tried before training, and arguments that would be ignored."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from reglab.config.trust import isolated, trust
from reglab.core.errors import UserError
from reglab.training.optimizer_checks import check_steps
from reglab.training.recipe import Recipe

PATH = __name__


class Open(torch.optim.SGD):
    """Reads ``decay`` out of arguments that its signature does not name."""

    def __init__(self, params: Any, lr: float = 0.1, pair: tuple[float, float] = (0.9, 0.5), **kwargs: Any) -> None:
        super().__init__(params, lr=lr, weight_decay=kwargs.get("decay", 0.0))


class WithClosure(torch.optim.SGD):
    def step(self, closure: Any) -> None:  # type: ignore[override]
        super().step(closure)


class Failing(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        raise RuntimeError("needs a second derivative.")


class KeepsObjects(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        self.state[self.param_groups[0]["params"][0]]["seen"] = Failing
        super().step(closure)


class Forgets(torch.optim.SGD):
    """Has a count of steps beside its state."""

    count = 0

    def step(self, closure: Any = None) -> None:
        self.count += 1
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data.sub_(weight.grad / self.count)


class Unready(torch.optim.SGD):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        raise NotImplementedError("without momentum")


class Nameless(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


@pytest.fixture(autouse=True)
def trusted() -> Iterator[None]:
    with isolated():
        trust(PATH.partition(".")[0])
        yield


def checked(name: str, **arguments: Any) -> None:
    node = {"_target_": f"{PATH}.{name}" if "." not in name else name, **arguments}
    check_steps(Recipe(node).build_optimizer(nn.Linear(3, 2)), node)


@pytest.mark.parametrize(
    "name, message",
    [
        ("WithClosure", "WithClosure takes many gradients a step"),
        ("torch.optim.LBFGS", "LBFGS takes many gradients a step"),
        ("Failing", r"fails in a step by gradients alone \(RuntimeError: needs a second derivative\)"),
        ("KeepsObjects", "keeps more than tensors and numbers"),
        ("Forgets", "does not go on from its own state_dict"),
        ("Unready", r"Unready cannot be built of the model's weights \(without momentum\)"),
        ("Nameless", "Nameless has no learning rate"),
    ],
)
def test_an_optimizer_that_cannot_be_trained_by_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(name)


def test_one_that_can_is_taken_and_moves_no_random_state() -> None:
    node = {"_target_": f"{PATH}.Open", "decay": 0.1, "pair": [0.5, 0.5]}
    optimizer = Recipe(node).build_optimizer(nn.Linear(3, 2))
    before = torch.get_rng_state()
    check_steps(optimizer, node)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "name, wrong, message",
    [
        ("Open", {"dcay": 0.1}, r"optimizer\.dcay: Open does not read it; did you mean 'decay'"),
        ("Open", {"pair": 0.5}, r"optimizer\.pair must be 2 numbers, such as \[0\.9, 0\.5\], got 0\.5"),
        ("torch.optim.Adam", {"betas": 0.9}, r"must be 2 numbers.*write optimizer\.betas=\[0\.9,0\.999\]"),
        ("torch.optim.Adam", {"betas": [0.9]}, r"must be 2 numbers"),
        ("torch.optim.Adam", {"betas": ["a", 0.9]}, r"must be 2 numbers"),
        ("torch.optim.Muon", {}, "Muon takes matrices alone, and bias is none: use optimizer=muon"),
    ],
)  # fmt: skip
def test_arguments_that_it_would_ignore_or_trip_over_are_refused(name: str, wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(name, **wrong)


@pytest.mark.parametrize(
    "scheduler, message",
    [
        ({"_target_": "CosineAnnealingLR", "eta_min": 0.5}, r"eta_min=0\.5 is above optimizer\.lr, 0\.1"),
        ({"_target_": "ReduceLROnPlateau", "min_lr": 0.5}, r"min_lr=0\.5 is above optimizer\.lr, 0\.1"),
    ],
)
def test_a_schedule_that_would_lead_up_to_its_least_rate_is_refused(scheduler: dict, message: str) -> None:
    node = {**scheduler, "_target_": f"torch.optim.lr_scheduler.{scheduler['_target_']}"}
    recipe = Recipe({"_target_": "torch.optim.SGD", "lr": 0.1}, node)
    with pytest.raises(UserError, match=message):
        recipe.build_schedule(recipe.build_optimizer(nn.Linear(1, 1)), 5)


def test_a_warm_up_before_a_cosine_does_not_lower_what_its_least_rate_is_compared_to() -> None:
    parts: list[dict[str, Any]] = [
        {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 0.01},
        {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "eta_min": 0.01},
    ]
    node = {"_target_": "torch.optim.lr_scheduler.SequentialLR", "schedulers": parts, "milestones": [2]}
    recipe = Recipe({"_target_": "torch.optim.SGD", "lr": 0.1}, node)
    assert recipe.build_schedule(recipe.build_optimizer(nn.Linear(1, 1)), 5) is not None
