import itertools

import pytest
import torch
from torch import nn

from reglab.core.errors import UserError
from reglab.optimizers import Scale, UpdateRule
from reglab.training.step_size import LearningRates, StepSizes

SLOPE = torch.tensor([[0.7, -2.0, 1e-3]], dtype=torch.float64)


def moved(make, steps):
    """Move a weight by a constant gradient; yield what torch moved it by, and the effective step,
    at each step.
    """
    model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    optimizer = make(model.parameters())
    sizes = StepSizes(model, optimizer)
    for _ in range(steps):
        before = model.weight.detach().clone()
        model.weight.grad = SLOPE.clone()
        sizes.begin()
        optimizer.step()
        yield before - model.weight.detach(), sizes["weight"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.5, "dampening": 0.3},
        {"momentum": 0.9, "foreach": True},
    ],
)
def test_sgd_comes_to_move_a_weight_by_its_step_times_a_constant_slope(options):
    *_, (movement, step) = moved(lambda weights: torch.optim.SGD(weights, lr=0.1, **options), 400)
    assert step.shape == ()
    torch.testing.assert_close(movement, step * SLOPE, atol=1e-12, rtol=1e-10)


ADAMS = [
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.Adam, {"eps": 0.5, "betas": (0.5, 0.7)}),
    (torch.optim.Adam, {"fused": True}),
    (torch.optim.AdamW, {"weight_decay": 0.0}),
]


@pytest.mark.parametrize("kind, options", ADAMS)
@pytest.mark.parametrize(
    "tolerance",
    [
        1e-4,
        1e-9,
    ],
)
def test_adam_moves_a_weight_by_its_step_times_a_constant_slope_at_every_step(kind, options, tolerance):
    """Under a constant gradient the corrected first moment is that gradient, so the movement tells
    the step.
    """
    for movement, step in moved(lambda weights: kind(weights, lr=0.1, **options), 20):
        assert step.shape == SLOPE.shape
        torch.testing.assert_close(movement, step * SLOPE, atol=0, rtol=tolerance)


def test_decay_of_adamw_is_no_part_of_the_step():
    plain = [step for _, step in moved(lambda weights: torch.optim.Adam(weights, lr=0.1), 5)]
    decayed = [step for _, step in moved(lambda weights: torch.optim.AdamW(weights, lr=0.1, weight_decay=0.5), 5)]
    torch.testing.assert_close(plain, decayed)


def test_groups_and_schedules_have_their_own_rates():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
    groups = [{"params": model[0].parameters(), "lr": 0.2}, {"params": model[1].parameters(), "momentum": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    sizes, rates = StepSizes(model, optimizer), LearningRates(model, optimizer)
    assert list(sizes) == list(rates) == ["0.weight", "1.weight", "1.bias"]
    assert len(sizes) == len(rates) == 3
    assert [round(float(sizes[name]), 6) for name in sizes] == [0.2, 0.2, 0.2]
    optimizer.param_groups[1]["lr"] = 0.3
    assert [round(float(sizes[name]), 6) for name in sizes] == [0.2, 0.6, 0.6]
    assert [float(rates[name]) for name in rates] == [0.2, 0.3, 0.3]


def test_steps_of_half_precision_weights_are_in_float32():
    model = nn.Linear(2, 1, bias=False, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    assert StepSizes(model, optimizer)["weight"].dtype == torch.float32


def test_adams_steps_of_half_precision_weights_are_in_float32():
    """After the first update the second moment is the squared gradient, here a power of two:
    nothing is rounded.
    """
    model = nn.Linear(2, 1, bias=False, dtype=torch.bfloat16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3, eps=0.1, betas=(0.9, 0.75))
    model.weight.grad = torch.full_like(model.weight, 0.5)
    optimizer.step()
    expected = torch.full((1, 2), 0.3 / (0.5 + 0.1))
    torch.testing.assert_close(StepSizes(model, optimizer)["weight"], expected, atol=0, rtol=1e-6)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_weight_without_a_gradient_has_a_step_of_its_precision(kind):
    model = nn.Linear(2, 1, dtype=torch.float64)
    step = StepSizes(model, kind(model.parameters(), lr=0.25))["weight"]
    assert (step.shape, step.dtype, float(step)) == ((), torch.float64, 0.25 if kind is torch.optim.SGD else 0.0)


def test_a_learning_rate_that_is_a_tensor_is_read():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.25))
    assert float(StepSizes(model, optimizer)["weight"]) == 0.25


class OwnAdam(torch.optim.Adam):
    """It may step otherwise than its parent."""


def test_an_optimizer_whose_step_is_not_known_is_refused():
    model = nn.Linear(2, 1)
    with pytest.raises(
        UserError, match="effective step size of OwnAdam, which is not known: describe it by an UpdateRule"
    ):
        StepSizes(model, OwnAdam(model.parameters()))["weight"]


def test_one_of_another_package_is_told_of_the_known_one_of_its_name():
    other = type("Lion8bit", (torch.optim.SGD,), {"__module__": "other"})
    model = nn.Linear(2, 1)
    with pytest.raises(UserError, match=r"or use reglab\.optimizers\.lion\.Lion or l1_subgradient"):
        StepSizes(model, other(model.parameters(), lr=0.1))["weight"]


@pytest.mark.parametrize("kind", [torch.optim.Muon, torch.optim.Adafactor, torch.optim.Rprop, torch.optim.SparseAdam])
def test_an_optimizer_that_no_proximal_step_fits_is_refused_with_the_reason(kind):
    model = nn.Linear(2, 1, bias=False)
    with pytest.raises(UserError, match=rf"proximal steps do not fit {kind.__name__}: it.*; use AdamW, SGD"):
        StepSizes(model, kind(model.parameters()))["weight"]


OTHERS = [
    (torch.optim.RMSprop, {"momentum": 0.5, "alpha": 0.9}),
    (torch.optim.RMSprop, {}),
    (torch.optim.Adagrad, {"lr_decay": 0.01, "initial_accumulator_value": 0.1}),
    (torch.optim.Adamax, {"eps": 0.1}),
    (torch.optim.NAdam, {"momentum_decay": 0.1}),
    (torch.optim.RAdam, {"betas": (0.5, 0.9)}),
    (torch.optim.ASGD, {"lambd": 0.0, "alpha": 0.5}),
]


@pytest.mark.parametrize("kind, options", OTHERS)
def test_others_come_to_move_a_weight_by_their_step_times_a_constant_gradient(kind, options):
    for movement, step in [*moved(lambda weights: kind(weights, lr=0.1, **options), 400)][-3:]:
        torch.testing.assert_close(movement, (step * SLOPE).expand_as(movement), atol=0, rtol=1e-6)


def test_adadeltas_step_is_the_next_updates():
    moves = list(moved(lambda weights: torch.optim.Adadelta(weights, lr=0.1, rho=0.5), 30))
    for (_, step), (following, _) in itertools.pairwise(moves[10:]):  # the mean square gradient has settled
        torch.testing.assert_close(following, step * SLOPE, atol=0, rtol=1e-3)


def test_a_rule_beside_an_optimizer_of_ones_own_is_found():
    class Doubled(torch.optim.SGD):
        """Its steps are twice as long."""

    class DoubledRule(UpdateRule):
        serves = (f"{Doubled.__module__}.{Doubled.__qualname__}",)

        def scale(self, group, state, lr):
            return Scale(2 * lr)

    model = nn.Linear(2, 1, bias=False)
    assert float(StepSizes(model, Doubled(model.parameters(), lr=0.25))["weight"]) == 0.5


def test_maximizing_is_refused():
    model = nn.Linear(2, 1)
    with pytest.raises(UserError, match="maximize=True"):
        StepSizes(model, torch.optim.SGD(model.parameters(), lr=0.1, maximize=True))["weight"]


@pytest.mark.parametrize("numbers", [StepSizes, LearningRates])
def test_rates_are_those_of_the_groups_that_a_load_put_in_place(numbers):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    state, actual = optimizer.state_dict(), numbers(model, optimizer)
    assert float(actual["weight"]) == 0.5
    state["param_groups"][0]["lr"] = 0.25
    optimizer.load_state_dict(state)
    assert float(actual["weight"]) == 0.25
    optimizer.param_groups[0]["lr"] = 0.125
    assert float(actual["weight"]) == 0.125


def test_a_group_that_is_added_later_is_found():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.5)
    sizes = StepSizes(model, optimizer)
    assert list(sizes) == ["1.weight"]
    optimizer.add_param_group({"params": model[0].parameters(), "lr": 0.25})
    assert {name: float(size) for name, size in sizes.items()} == {"1.weight": 0.5, "0.weight": 0.25}
