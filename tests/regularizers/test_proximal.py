"""Proximal steps where Adam has no step of its own, and beside a gradient that is clipped."""

from collections.abc import Callable
from typing import Any

import pytest
import sklearn.linear_model
import torch
from torch import Tensor, nn

from reglab.regularizers import L1, ElasticNet, L1Subgradient
from reglab.training.step_size import StepSizes
from regularizers.loop import OPTIMIZERS, Loop, cross_entropy, least_squares, linear

DESIGN, TARGET = least_squares()
DEAD = torch.cat([DESIGN, torch.zeros(len(DESIGN), 1, dtype=torch.float64)], dim=1)
ADAMS = {
    "adam": torch.optim.Adam,
    "adamw": lambda weights, **options: torch.optim.AdamW(weights, weight_decay=0, **options),
    "amsgrad": lambda weights, **options: torch.optim.Adam(weights, amsgrad=True, **options),
}


def lasso(design: Tensor, alpha: float = 0.1) -> Tensor:
    solver = sklearn.linear_model.Lasso(alpha=alpha, fit_intercept=False, tol=1e-14, max_iter=100_000)
    return torch.from_numpy(solver.fit(design.numpy(), TARGET.numpy()).coef_)


def fitted(member: Any, optimizer: str, design: Tensor, clip: float | None = None, times: int = 1) -> Tensor:
    make, steps = OPTIMIZERS[optimizer]
    loop = Loop(linear(design.shape[1]), {"m": member}, make, clip=clip).run(design, TARGET, times * steps)
    return loop.weights["weight"][0].detach()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_coefficient_of_a_column_of_zeros_ends_at_zero_and_the_others_at_the_lasso(optimizer: str) -> None:
    expected = lasso(DEAD)
    coefficients = fitted(L1(0.1), optimizer, DEAD)
    torch.testing.assert_close(coefficients, expected, atol=1e-8, rtol=0)
    assert torch.equal(coefficients == 0, expected == 0)
    assert linear(13).weight[0, -1].abs() > 0.01  # where it came from


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_elastic_nets_too(optimizer: str) -> None:
    solver = sklearn.linear_model.ElasticNet(alpha=0.1, l1_ratio=0.6, fit_intercept=False, tol=1e-14, max_iter=100_000)
    expected = torch.from_numpy(solver.fit(DEAD.numpy(), TARGET.numpy()).coef_)
    torch.testing.assert_close(fitted(ElasticNet(0.1, 0.6), optimizer, DEAD), expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_clipping_by_norm_leaves_the_solution_where_it_is(optimizer: str) -> None:
    """At the Lasso's solution the gradient is as long as the penalty's: clipping to less is at work
    to the end.
    """
    expected = lasso(DESIGN)
    gradient = DESIGN.T @ (DESIGN @ expected - TARGET) / len(TARGET)
    clip = 0.8 * float(gradient.norm())
    coefficients = fitted(L1(0.1), optimizer, DESIGN, clip, times=2)
    torch.testing.assert_close(coefficients, expected, atol=1e-8, rtol=0)
    assert torch.equal(coefficients == 0, expected == 0)


def test_clipped_proximal_steps_and_a_clipped_penalty_solve_the_same_problem() -> None:
    """The same objective by a subgradient in the loss, where the penalty is clipped with the rest,
    ends beside it.
    """
    make = OPTIMIZERS["sgd"][0]
    proximal, subgradient = (
        Loop(linear(12), {"m": kind(0.1)}, make, clip=0.15).run(DESIGN, TARGET, 600).weights["weight"].detach()
        for kind in (L1, L1Subgradient)
    )
    assert (proximal - subgradient).abs().max() < 0.15 * 0.6  # the last step of the subgradient's jitter
    unscaled = fitted(_Unscaled(0.1), "sgd", DESIGN, clip=0.15, times=4)
    assert (unscaled - lasso(DESIGN)).abs().max() > 0.1


class _Unscaled(L1):
    """What was done before: the step of the learning rate, however short the gradient was made."""

    def on_step(self, model: nn.Module, step_size: Any) -> None:
        super().on_step(model, dict.fromkeys(step_size, torch.tensor(0.6, dtype=torch.float64)))


INPUTS: dict[str, Callable[[int], Tensor]] = {
    "normal": lambda rows: torch.randn(rows, 256),
    "half of it zero": lambda rows: torch.randn(rows, 256).relu(),
    "few of it not zero": lambda rows: torch.rand(rows, 256) * (torch.rand(rows, 256) < 0.05),
}


def net(width: int = 256) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    )


@pytest.mark.parametrize("rows", [1, 4, 32])
@pytest.mark.parametrize("kind", ADAMS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_a_weak_penalty_makes_no_zeros_in_one_step(inputs: str, kind: str, rows: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        data, targets = INPUTS[inputs](rows), torch.randint(10, (rows,))
        loop = Loop(
            net(), {"l1": L1(1e-6)}, lambda weights: ADAMS[kind](weights, lr=1e-3), cross_entropy, "classification"
        )
        loop.step(data, targets)
    for name in ("0.weight", "2.weight"):
        assert float((loop.weights[name] == 0).float().mean()) < 1e-3, name


def dead_units(members: dict[str, Any], rows: int, seed: int) -> int:
    """Train on ``rows`` at a time; return how many hidden units answer to none of 500 inputs at the
    end.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        data, model = torch.randn(500, 64), net(64)
        targets = data[:, :10].argmax(1)
        loop = Loop(model, members, lambda weights: torch.optim.Adam(weights, lr=1e-3), cross_entropy, "classification")
        for _ in range(60):
            index = torch.randint(500, (rows,))
            loop.step(data[index], targets[index], index)
        hidden = model[1](model[0](data))
        dead = (hidden == 0).all(0).sum() + (model[3](model[2](hidden)) == 0).all(0).sum()
    return int(dead)


@pytest.mark.parametrize("rows", [1, 8])
def test_no_more_units_die_than_without_it(rows: int) -> None:
    with_it = sum(dead_units({"l1": L1(1e-6)}, rows, seed) for seed in range(3))
    without = sum(dead_units({}, rows, seed) for seed in range(3))
    assert with_it <= without


def test_a_tiny_second_moment_moves_a_weight_no_further_than_adam_could() -> None:
    """A gradient of 1e-18 once: the effective step is 1e5 and more, and the penalty's threshold
    1e-2 per 1e-7.
    """
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, 0.5)
    loop = Loop(model, {"l1": L1(1e-3)}, lambda weights: torch.optim.Adam(weights, lr=1e-3))
    loop.step(torch.tensor([[1.0, 1e-18]], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64))
    assert float(loop.sizes["weight"][0, 1]) * 1e-3 > 50  # what it would have lost
    assert 0.5 - float(loop.weights["weight"][0, 1].detach()) < 0.01


@pytest.mark.parametrize("kind", ADAMS)
def test_a_typical_step_is_that_of_the_tensor_and_of_all_where_it_has_none(kind: str) -> None:
    """One step from gradients that are powers of two: their root mean squares are known by
    heart.
    """
    model = nn.ModuleDict({name: nn.Linear(4, 1, bias=False, dtype=torch.float64) for name in ("some", "none", "idle")})
    optimizer = ADAMS[kind](model.parameters(), lr=1.0, eps=0.0)
    model["some"].weight.grad = torch.tensor([[2.0, 2.0, 0.0, 4.0]], dtype=torch.float64)
    model["none"].weight.grad = torch.zeros(1, 4, dtype=torch.float64)
    optimizer.step()
    sizes = StepSizes(model, optimizer)
    typical = ((4 + 4 + 16) / 3) ** 0.5
    wanted = torch.tensor([[1 / 2, 1 / 2, 1 / typical, 1 / 4]], dtype=torch.float64)
    torch.testing.assert_close(sizes["some.weight"], wanted, rtol=1e-12, atol=0)
    for name in ("none.weight", "idle.weight"):
        expected = torch.full_like(sizes[name], 1 / typical)
        torch.testing.assert_close(sizes[name], expected, rtol=1e-12, atol=0)


def test_where_nothing_has_a_gradient_nothing_moves() -> None:
    model = nn.Linear(4, 1, dtype=torch.float64)
    before = model.weight.detach().clone()
    loop = Loop(model, {"l1": L1(0.1)}, lambda weights: torch.optim.Adam(weights, lr=0.1))
    for _ in range(3):
        loop.step(torch.zeros(2, 4, dtype=torch.float64), model.bias.detach().expand(2).clone())
    assert torch.equal(model.weight, before)
