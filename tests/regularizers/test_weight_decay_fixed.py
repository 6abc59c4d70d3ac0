"""Decay independent of the learning rate, and the law that tells the three forms of L2 apart."""

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR

from reglab.regularizers import L2, WeightDecay, WeightDecayFixed
from regularizers.loop import Loop, least_squares, linear

DESIGN, TARGET = least_squares()
FORMS = {"l2": L2, "weight_decay": WeightDecay, "weight_decay_fixed": WeightDecayFixed}


def gradient(weight):
    return DESIGN.T @ (DESIGN @ weight - TARGET) / len(TARGET)


def factors(schedule, steps, lr):
    """Return the learning rate of each step divided by the base rate."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    made, actual = schedule(optimizer), []
    for _ in range(steps):
        actual.append(optimizer.param_groups[0]["lr"] / lr)
        optimizer.step()
        made.step()
    return actual


@pytest.mark.parametrize("lr", [0.1, 0.003])
def test_each_step_takes_the_same_share_away_whatever_the_learning_rate(lr):
    loop = Loop(linear(12), {"decay": WeightDecayFixed(0.2)}, lambda weights: SGD(weights, lr=lr))
    weight = loop.weights["weight"][0].detach().clone()
    for _ in range(5):
        loop.step(DESIGN, TARGET)
        weight = 0.8 * weight - lr * gradient(weight)
        torch.testing.assert_close(loop.weights["weight"][0].detach(), weight, atol=1e-12, rtol=0)


SCHEDULES = {
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, T_max=8),
    "warm-up": lambda optimizer: LinearLR(optimizer, start_factor=0.1, total_iters=5),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_share_follows_the_schedule_and_not_its_height(schedule):
    """theta <- theta - eta_t * (alpha * direction + lambda * theta), Loshchilov & Hutter (2019),
    algorithm 2.
    """
    lr, steps = 0.05, 6
    loop = Loop(linear(12), {"decay": WeightDecayFixed(0.2)}, lambda weights: SGD(weights, lr=lr))
    made = SCHEDULES[schedule](loop.optimizer)
    weight = loop.weights["weight"][0].detach().clone()
    for eta in factors(SCHEDULES[schedule], steps, lr):
        loop.step(DESIGN, TARGET)
        weight = weight - eta * (lr * gradient(weight) + 0.2 * weight)
        torch.testing.assert_close(loop.weights["weight"][0].detach(), weight, atol=1e-12, rtol=0)
        made.step()


def test_a_one_cycle_schedule_refers_to_its_peak():
    loop = Loop(linear(12), {"decay": WeightDecayFixed(0.2)}, lambda weights: SGD(weights, lr=0.1, momentum=0.9))
    schedule = OneCycleLR(loop.optimizer, max_lr=0.5, total_steps=10)
    observed = []
    for _ in range(10):
        observed.append(float(loop.rates.relative("weight")))
        loop.step(DESIGN, TARGET)
        if len(observed) < 10:
            schedule.step()
    assert max(observed) == pytest.approx(1.0, abs=1e-12)
    assert observed[0] == pytest.approx(1 / 25)  # its div_factor


def test_at_the_strength_of_weight_decay_times_the_learning_rate_they_are_one():
    def trained(member):
        return Loop(linear(12), {"m": member}, lambda weights: Adam(weights, lr=0.02)).run(DESIGN, TARGET, 10)

    fixed, scaled = trained(WeightDecayFixed(0.02 * 0.5)), trained(WeightDecay(0.5))
    torch.testing.assert_close(fixed.weights["weight"], scaled.weights["weight"], atol=1e-14, rtol=0)


@pytest.mark.parametrize(
    "form, doubled_lr, hundredfold_gradient",
    [("l2", 2.0, 1.0), ("weight_decay", 2.0, 0.0), ("weight_decay_fixed", 1.0, 0.0)],
)
def test_the_three_forms_answer_differently_to_the_learning_rate_and_to_adams_scaling(
    form, doubled_lr, hundredfold_gradient
):
    """What the form takes away: under SGD by twice the rate, and under Adam beside a gradient that
    Adam rescales.

    Where the loss has no gradient, Adam makes a whole step of l2's, however weak it is; decay
    beside the update stays the share that it is.
    """

    def lost(lr, strength):
        model = linear(12)
        before = model.weight.detach().clone()
        loop = Loop(model, {"m": FORMS[form](strength)}, lambda weights: SGD(weights, lr=lr))
        loop.step(torch.zeros(4, 12, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))
        return float((1 - loop.weights["weight"].detach() / before).mean())

    assert lost(0.02, 0.1) / lost(0.01, 0.1) == pytest.approx(doubled_lr, rel=1e-9)

    def under_adam(strength):
        model = linear(12)
        before = model.weight.detach().clone()
        loop = Loop(model, {"m": FORMS[form](strength)}, lambda weights: Adam(weights, lr=0.01, eps=1e-12))
        loop.step(torch.zeros(4, 12, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))
        return float((before - loop.weights["weight"].detach()).abs().mean())

    ratio = under_adam(1e-1) / under_adam(1e-3)
    assert ratio == pytest.approx(1.0 if hundredfold_gradient else 100.0, rel=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_share_is_from_0_to_1(strength):
    with pytest.raises(ValueError, match="strength must be finite and >= 0 and <= 1"):
        WeightDecayFixed(strength)
