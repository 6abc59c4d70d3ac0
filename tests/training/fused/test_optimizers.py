"""The pure updates, against torch.optim on one weight."""

from typing import Any

import pytest
import torch
from torch import nn

from reglab.core.errors import Unfused
from reglab.optimizers.adam import powers
from reglab.optimizers.lion import Lion
from reglab.training.fused.optimizers import GroupNumbers, MemberStepSizes, joint_rule, numbers_of, rule_of
from reglab.training.fused.stack import by_member
from reglab.training.step_size import StepSizes

optim = torch.optim
SETTINGS: list[tuple[type[optim.Optimizer], dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optim.Adam, {"lr": 0.1, "betas": (0.8, 0.99), "weight_decay": 0.1}),
    (optim.Adam, {"lr": 0.1, "amsgrad": True, "eps": 1e-3}),
    (optim.AdamW, {"lr": 0.1, "weight_decay": 0.3}),
    (optim.RMSprop, {"lr": 0.1, "weight_decay": 0.3}),
    (optim.RMSprop, {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "momentum": 0.7}),
    (optim.RMSprop, {"lr": 0.1, "centered": True, "eps": 1e-2}),
    (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    (optim.Adadelta, {"lr": 0.7, "rho": 0.8, "weight_decay": 0.1}),
    (optim.Adamax, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    (optim.NAdam, {"lr": 0.1, "betas": (0.8, 0.9), "momentum_decay": 0.1, "weight_decay": 0.1}),
    (optim.NAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (optim.RAdam, {"lr": 0.1, "betas": (0.8, 0.99), "weight_decay": 0.1}),
    (optim.RAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (Lion, {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1}),
]


@pytest.mark.parametrize("kind, settings", SETTINGS, ids=lambda value: str(getattr(value, "__name__", value)))
def test_twenty_updates_and_step_sizes_are_those_of_torch(kind: Any, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    optimizer = kind(model.parameters(), **settings)
    rule, sizes = joint_rule([optimizer]), StepSizes(model, optimizer)
    weight = model.weight.detach().clone()
    numbers = {key: torch.full((20, 1), value, dtype=torch.float64) for key, value in numbers_of(optimizer)[0].items()}
    actual = rule.step_numbers(numbers, range(20))
    state = {
        name: torch.full_like(weight, float(numbers[rule.initial[name]][0, 0]) if name in rule.initial else 0.0)
        for name in rule.state_names
    }
    for done in range(20):
        gradient = torch.randn(2, 3, dtype=torch.float64) + weight
        model.weight.grad = gradient.clone()
        optimizer.step()
        sizes.begin()
        ready = GroupNumbers({name: number.expand(20, 1)[done, 0] for name, number in actual.items()}, {})
        rule.update(weight, gradient, state, ready["weight"])
        members = MemberStepSizes(rule, {"weight": state}, ready, None)
        torch.testing.assert_close(
            weight, model.weight.detach(), rtol=1e-7 if kind is optim.NAdam else 1e-12, atol=1e-14
        )
        # torch.optim counts steps in float32, and so does its power of beta2
        torch.testing.assert_close(members["weight"].expand(2, 3), sizes["weight"].expand(2, 3), rtol=1e-7, atol=0)
        largest, wanted = members.largest("weight"), sizes.largest("weight")
        assert (largest is None) == (wanted is None)
        if largest is not None:
            torch.testing.assert_close(largest, wanted)
    kept = optimizer.state[model.weight]
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, kept[name], rtol=1e-7 if kind is optim.NAdam else 1e-12, atol=1e-14)
    plain = {name: float(number[0, 0]) for name, number in numbers.items()}
    counted = rule.count(plain, 20)
    assert {name: float(value) for name, value in kept.items() if value.dim() == 0} == pytest.approx(counted)
    assert {*counted, *state} == set(kept)


@pytest.mark.parametrize(
    "optimizer",
    [optim.Rprop, optim.ASGD, lambda weights: optim.SGD(weights, lr=0.1, maximize=True)],
    ids=["Rprop", "ASGD", "maximize"],
)
def test_other_updates_are_not_fused(optimizer: Any) -> None:
    with pytest.raises(Unfused):
        joint_rule([optimizer([nn.Parameter(torch.zeros(1))])])


def test_momentum_for_all_where_one_has_it() -> None:
    plain, heavy = (optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=m) for m in (0.0, 0.9))
    assert joint_rule([plain, heavy]).state_names == ("momentum_buffer",)
    assert joint_rule([plain, plain]).state_names == ()


def test_groups_that_differ_in_more_than_numbers_are_not_fused() -> None:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    groups = [{"params": [first]}, {"params": [second], "amsgrad": True}]
    with pytest.raises(Unfused, match="differ in amsgrad"):
        joint_rule([optim.Adam(groups)])
    assert rule_of(optim.Adam(groups)) is rule_of(optim.AdamW([first]))


def test_numbers_of_several_groups_have_an_axis_more() -> None:
    assert by_member([[1.0], [2.0]]).tolist() == [1, 2]
    assert by_member([[1.0, 3.0], [2.0, 4.0]]).tolist() == [[1, 3], [2, 4]]
    numbers = GroupNumbers({"lr": torch.tensor([0.1, 0.2]), "clip": torch.tensor(1.0)}, {"head": 1, "body": 0})
    assert (float(numbers["head"]["lr"]), float(numbers["body"]["lr"])) == pytest.approx((0.2, 0.1))
    assert float(numbers["head"]["clip"]) == 1


def test_powers_are_those_of_pythons_floats_at_any_place() -> None:
    bases = torch.tensor([[0.999, 0.9, 0.999, 0.5, 0.95, 0.9999, 0.8]], dtype=torch.float64)
    counts = [1, 2, 17, 1000, 123456]
    expected = [[base**count for base in bases[0].tolist()] for count in counts]
    assert powers(bases, counts).tolist() == expected
    assert powers(bases.expand(5, -1), counts).tolist() == expected
    for index, count in enumerate(counts):
        assert torch.equal(powers(bases[:, 2:4], [count]), powers(bases, counts)[index : index + 1, 2:4])
