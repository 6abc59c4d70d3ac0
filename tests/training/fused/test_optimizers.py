"""The pure updates, against torch.optim on one weight."""

from typing import Any

import pytest
import torch
from torch import nn

from reglab.core.errors import Unfused
from reglab.training.fused.optimizers import MemberStepSizes, joint_rule, powers, rule_of
from reglab.training.step_size import StepSizes

SETTINGS: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.SGD, {"lr": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.99), "weight_decay": 0.1}),
    (torch.optim.Adam, {"lr": 0.1, "amsgrad": True, "eps": 1e-3}),
    (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.3}),
]


@pytest.mark.parametrize("kind, settings", SETTINGS, ids=lambda value: str(getattr(value, "__name__", value)))
def test_twenty_updates_and_step_sizes_are_those_of_torch(kind: Any, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    optimizer = kind(model.parameters(), **settings)
    rule, sizes = rule_of(optimizer), StepSizes(model, optimizer)
    weight = model.weight.detach().clone()
    state = {name: torch.zeros_like(weight) for name in rule.state_names}
    numbers = {key: torch.tensor([value], dtype=torch.float64) for key, value in rule.numbers.items()}
    actual = rule.step_numbers(numbers, numbers["lr"].expand(20, 1), range(20))
    for done in range(20):
        gradient = torch.randn(2, 3, dtype=torch.float64) + weight
        model.weight.grad = gradient.clone()
        optimizer.step()
        sizes.begin()
        ready = {name: number.expand(20, 1)[done, 0] for name, number in actual.items()}
        rule.update(weight, gradient, state, ready)
        size = MemberStepSizes({name: {"weight": tensor} for name, tensor in state.items()}, ready, ["weight"], None)[
            "weight"
        ]
        torch.testing.assert_close(weight, model.weight.detach(), rtol=1e-12, atol=1e-14)
        # torch.optim counts steps in float32, and so does its power of beta2
        torch.testing.assert_close(size.expand(2, 3), sizes["weight"].expand(2, 3), rtol=1e-9, atol=0)
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, optimizer.state[model.weight][name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.RMSprop, torch.optim.Adagrad, lambda weights: torch.optim.SGD(weights, lr=0.1, maximize=True)],
    ids=["RMSprop", "Adagrad", "maximize"],
)
def test_other_updates_are_not_known(optimizer: Any) -> None:
    with pytest.raises(Unfused, match="is not known to fused training"):
        rule_of(optimizer([nn.Parameter(torch.zeros(1))]))


def test_momentum_for_all_where_one_has_it() -> None:
    plain, heavy = (rule_of(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=m)) for m in (0.0, 0.9))
    assert joint_rule([plain, heavy]).state_names == ("momentum_buffer",)
    assert joint_rule([plain, plain]).state_names == ()


def test_powers_are_those_of_pythons_floats_at_any_place() -> None:
    bases = torch.tensor([0.999, 0.9, 0.999, 0.5, 0.95, 0.9999, 0.8], dtype=torch.float64)
    counts = [1, 2, 17, 1000, 123456]
    expected = [[base**count for base in bases.tolist()] for count in counts]
    assert powers(bases, counts).tolist() == expected
    for index, count in enumerate(counts):
        assert torch.equal(powers(bases[2:4], [count]), powers(bases, counts)[index : index + 1, 2:4])
