import pytest
import sklearn.linear_model
import torch
from torch import nn

from reglab.regularizers import L1
from reglab.regularizers.l1 import soft_threshold
from regularizers.loop import OPTIMIZERS, Loop, halved, least_squares, linear, squared

DESIGN, TARGET = least_squares()


def lasso(alpha):
    solver = sklearn.linear_model.Lasso(alpha=alpha, fit_intercept=False, tol=1e-14, max_iter=100_000)
    return torch.from_numpy(solver.fit(DESIGN.numpy(), TARGET.numpy()).coef_)


def fitted(member, optimizer, loss=halved):
    make, steps = OPTIMIZERS[optimizer]
    loop = Loop(linear(DESIGN.shape[1]), {"l1": member}, make, loss).run(DESIGN, TARGET, steps)
    return loop.weights["weight"][0].detach()


class PlainLr(L1):
    """What most code does, and what goes wrong: thresholds by lr * strength, whatever the optimizer
    does.
    """

    def on_step(self, model, step_size):
        for weight in model.parameters():
            weight.copy_(soft_threshold(weight, self.strength * 0.1))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_lands_on_the_lasso_with_its_exact_support(optimizer):
    expected = lasso(0.1)
    assert 0 < (expected == 0).sum() < len(expected)
    coefficients = fitted(L1(0.1), optimizer)
    torch.testing.assert_close(coefficients, expected, atol=1e-8, rtol=0)
    assert torch.equal(coefficients == 0, expected == 0)


def test_under_a_squared_error_that_is_not_halved_alpha_is_half_the_strength():
    # min mean e^2 + s |w|  =  2 * min (mean e^2 / 2 + s/2 |w|)
    coefficients = fitted(L1(0.2), "momentum", squared)
    torch.testing.assert_close(coefficients, lasso(0.1), atol=1e-8, rtol=0)


@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_the_solution_is_optimal(optimizer):
    """Karush-Kuhn-Tucker: the gradient is -strength * sign(w) where w is not 0, and at most
    strength where it is.
    """
    coefficients = fitted(L1(0.03), optimizer)
    gradient = DESIGN.T @ (DESIGN @ coefficients - TARGET) / len(TARGET)
    active = coefficients != 0
    assert 4 <= active.sum() < len(active)
    assert (gradient + 0.03 * coefficients.sign())[active].abs().max() < 1e-8
    assert gradient[~active].abs().max() <= 0.03


def test_a_threshold_by_the_plain_learning_rate_misses_the_lasso_under_momentum():
    coefficients = fitted(PlainLr(0.1), "momentum")
    assert (coefficients - lasso(0.1)).abs().max() > 0.01
    assert not torch.equal(coefficients == 0, lasso(0.1) == 0)


class Spare(nn.Module):
    """Half of it takes no part in the outputs, so the optimizer never sees a gradient of it."""

    def __init__(self):
        super().__init__()
        self.used = linear(12)
        self.spare = linear(12)

    def forward(self, inputs):
        return self.used(inputs)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_weight_that_no_loss_reaches_does_not_stop_training(optimizer):
    loop = Loop(Spare(), {"l1": L1(0.1)}, OPTIMIZERS[optimizer][0]).run(DESIGN, TARGET, 3)
    assert torch.isfinite(loop.weights["spare.weight"]).all()


def test_biases_are_not_thresholded():
    model = linear(12, bias=True)
    loop = Loop(model, {"l1": L1(100.0)}, lambda weights: torch.optim.SGD(weights, lr=0.1)).run(DESIGN, TARGET, 300)
    assert (loop.weights["weight"] == 0).all()
    torch.testing.assert_close(loop.weights["bias"][0].detach(), TARGET.mean(), atol=1e-8, rtol=0)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 2.0])
def test_the_soft_threshold_is_the_minimum_on_a_grid(threshold):
    weights = torch.linspace(-2, 2, 41, dtype=torch.float64)
    grid = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    objective = (grid - weights[:, None]).square() / 2 + threshold * grid.abs()
    expected = grid[objective.argmin(1)]
    actual = soft_threshold(weights, torch.tensor(threshold, dtype=torch.float64))
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def test_the_soft_threshold_keeps_nan_and_infinity():
    values = torch.tensor([torch.nan, torch.inf, -torch.inf])
    torch.testing.assert_close(soft_threshold(values, torch.tensor(1.0)), values, equal_nan=True)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_a_strength_that_is_no_strength_is_refused(strength):
    with pytest.raises(ValueError, match=r"strength must be finite and >= 0, got"):
        L1(strength)
