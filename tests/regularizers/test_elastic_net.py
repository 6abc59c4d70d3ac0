import pytest
import sklearn.linear_model
import torch

from reglab.regularizers import L1, ElasticNet
from regularizers.loop import OPTIMIZERS, Loop, least_squares, linear

DESIGN, TARGET = least_squares()


def fitted(member, optimizer="nesterov"):
    make, steps = OPTIMIZERS[optimizer]
    loop = Loop(linear(DESIGN.shape[1]), {"member": member}, make).run(DESIGN, TARGET, steps)
    return loop.weights["weight"][0].detach()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_lands_on_the_solution_of_scikit_learn_with_its_exact_support(optimizer):
    solver = sklearn.linear_model.ElasticNet(alpha=0.2, l1_ratio=0.7, fit_intercept=False, tol=1e-14, max_iter=100_000)
    expected = torch.from_numpy(solver.fit(DESIGN.numpy(), TARGET.numpy()).coef_)
    assert 0 < (expected == 0).sum() < len(expected)
    coefficients = fitted(ElasticNet(0.2, 0.7), optimizer)
    torch.testing.assert_close(coefficients, expected, atol=1e-8, rtol=0)
    assert torch.equal(coefficients == 0, expected == 0)


def test_at_ratio_one_it_is_l1_bit_for_bit():
    assert torch.equal(fitted(ElasticNet(0.1, 1.0)), fitted(L1(0.1)))


@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_at_ratio_zero_it_is_ridge(optimizer):
    rows, features = DESIGN.shape
    hessian = DESIGN.T @ DESIGN / rows + 0.3 * torch.eye(features, dtype=torch.float64)
    expected = torch.linalg.solve(hessian, DESIGN.T @ TARGET / rows)
    coefficients = fitted(ElasticNet(0.3, 0.0), optimizer)
    torch.testing.assert_close(coefficients, expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
def test_one_step_minimizes_the_proximal_objective_on_a_grid(ratio):
    strength, step = 0.5, 0.8
    model = linear(9)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-2, 2, 9, dtype=torch.float64)[None])
    before = model.weight.detach()[0].clone()
    with torch.no_grad():
        ElasticNet(strength, ratio).on_step(model, {"weight": torch.tensor(step, dtype=torch.float64)})
    grid = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    penalty = strength * (ratio * grid.abs() + (1 - ratio) / 2 * grid.square())
    expected = grid[((grid - before[:, None]).square() / 2 + step * penalty).argmin(1)]
    torch.testing.assert_close(model.weight.detach()[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("options, message", [({"l1_ratio": 1.1}, "l1_ratio must be"), ({"strength": -1}, "strength")])
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ElasticNet(**options)
