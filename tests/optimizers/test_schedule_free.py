"""Schedule-free steps against the paper's formulas in numpy, and against the package's optimizers where it is
installed.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from reglab.core.errors import UserError
from reglab.optimizers.schedule_free import ScheduleFree
from reglab.regularizers import L2, SAM, MaxNorm, Regularizer, WeightDecay
from reglab.training.optimizer_average import ScheduleFreeAverage
from regularizers.loop import Loop, least_squares, linear

DESIGN, TARGET = least_squares()
STEPS, BETA, FLAVOURS = 30, 0.8, {"sgd": (False, 0.1), "adamw": (True, 0.05)}


def trained(flavour: str, *members: Regularizer, warmup: int = 0, steps: int = STEPS, decay: float = 0.0) -> Loop:
    adaptive, lr = FLAVOURS[flavour]

    def optimizer(weights: Iterable[Tensor]) -> ScheduleFree:
        return ScheduleFree(weights, lr=lr, adaptive=adaptive, beta2=0.95, weight_decay=decay)

    others = {f"member{number}": member for number, member in enumerate(members)}
    loop = Loop(linear(12), {"optimizer": ScheduleFreeAverage(BETA), **others}, optimizer)
    (group,) = loop.optimizer.param_groups
    group["initial_lr"] = lr  # as torch's schedulers mark it
    for step in range(steps):
        group["lr"] = lr * min(1.0, (step + 1) / max(1, warmup))
        loop.step(DESIGN, TARGET)
    return loop


def judged(loop: Loop) -> NDArray[Any]:
    with loop.cocktail.evaluating(loop.model):
        return loop.model.weight.detach().numpy().ravel().copy()


def by_the_paper(flavour: str, l2: float = 0.0, warmup: int = 0, decay: float = 0.0) -> tuple[NDArray[Any], ...]:
    """Return z and x after ``STEPS`` full-batch steps on the halved squared error: algorithm 1 of the paper."""
    adaptive, lr = FLAVOURS[flavour]
    design, target = DESIGN.numpy(), TARGET.numpy()
    z = x = linear(12).weight.detach().numpy().ravel().copy()
    v, weight_sum = np.zeros_like(z), 0.0
    for step in range(1, STEPS + 1):
        rate = lr * min(1.0, step / max(1, warmup))
        y = (1 - BETA) * z + BETA * x
        gradient = design.T @ (design @ y - target) / len(target) + l2 * y
        v = 0.95 * v + 0.05 * gradient**2
        length = np.sqrt(v / (1 - 0.95**step)) + 1e-8 if adaptive else 1.0
        z = z - rate * decay * z - rate * gradient / length
        weight_sum += rate**2
        x = x + rate**2 / weight_sum * (z - x)
    return z, x


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_weights_and_average_are_the_papers(flavour: str) -> None:
    loop = trained(flavour, L2(0.01), WeightDecay(0.3), warmup=10)
    z, x = by_the_paper(flavour, l2=0.01, warmup=10, decay=0.3)
    np.testing.assert_allclose(loop.model.weight.detach().numpy().ravel(), z, rtol=0, atol=1e-12)
    np.testing.assert_allclose(judged(loop), x, rtol=0, atol=1e-12)


def test_its_own_decay_is_the_regularizers() -> None:
    np.testing.assert_allclose(
        judged(trained("adamw", decay=0.3)), judged(trained("adamw", WeightDecay(0.3))), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("flavour, theirs", [("sgd", "SGDScheduleFree"), ("adamw", "AdamWScheduleFree")])
def test_the_packages_optimizers_go_the_same_way(flavour: str, theirs: str) -> None:
    package = pytest.importorskip("schedulefree", reason="pip install schedulefree")
    model, (adaptive, lr) = linear(12), FLAVOURS[flavour]
    betas = {"betas": (BETA, 0.95)} if adaptive else {"momentum": BETA}
    optimizer = getattr(package, theirs)(model.parameters(), lr=lr, warmup_steps=10, **betas)
    optimizer.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((model(DESIGN).squeeze(1) - TARGET).square().mean() / 2).backward()
        optimizer.step()
    optimizer.eval()
    np.testing.assert_allclose(
        judged(trained(flavour, warmup=10)), model.weight.detach().numpy().ravel(), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_average_settles_at_the_minimum_with_its_penalty(flavour: str) -> None:
    design, target = DESIGN.numpy(), TARGET.numpy()
    ridge = np.linalg.solve(design.T @ design / len(target) + 0.1 * np.eye(12), design.T @ target / len(target))
    np.testing.assert_allclose(judged(trained(flavour, L2(0.1), steps=400)), ridge, atol=0.01)


def test_the_average_of_projected_weights_stays_inside() -> None:
    loop = trained("sgd", MaxNorm(0.7))
    assert np.linalg.norm(judged(loop)) <= 0.7 * (1 + 1e-12)
    assert np.linalg.norm(judged(trained("sgd"))) > 0.7


def test_sam_climbs_from_where_the_gradient_is_taken() -> None:
    design, target = DESIGN.numpy(), TARGET.numpy()
    z = x = linear(12).weight.detach().numpy().ravel().copy()
    for step in range(1, 6):
        y = (1 - BETA) * z + BETA * x
        gradient = design.T @ (design @ y - target) / len(target)
        y = y + 0.05 * gradient / np.linalg.norm(gradient)
        z = z - 0.1 * design.T @ (design @ y - target) / len(target)
        x = x + (z - x) / step
    np.testing.assert_allclose(judged(trained("sgd", SAM(0.05), steps=5)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"beta": 1.0}, {"beta2": 1.0}, {"eps": -1}, {"weight_decay": -1}])
def test_bad_numbers_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="ScheduleFree needs lr > 0"):
        ScheduleFree(linear(1).parameters(), **wrong)
