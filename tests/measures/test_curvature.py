"""Curvature against the whole Hessian of a small net, closed forms, and NumPy's eigenvalues."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from reglab.core.errors import UserError
from reglab.measures import Curvature, OfModels, measured
from reglab.measures.lanczos import lanczos
from reglab.measures.matrices import spread_rows

ROWS = 30


def data(classes: bool = True) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * ROWS, 4, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 3, (2 * ROWS,), generator=generator) if classes else inputs @ torch.ones(4).double()
    return (inputs[:ROWS], targets[:ROWS]), (inputs[ROWS:], targets[ROWS:])


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def numbers(models: OfModels, measure: Curvature) -> dict[str, float]:
    return {name: float(value) for name, value in measured(models, {"curvature": measure}).items()}


def whole_hessian(model: nn.Module, inputs: Tensor, targets: Tensor) -> np.ndarray:
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]
    shapes = [p.shape for p in model.parameters()]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(names, torch.split(flat, sizes), shapes, strict=True)
        state = {name: part.reshape(shape) for name, part, shape in parts}
        return nn.functional.cross_entropy(functional_call(model, state, (inputs,)), targets)

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    return torch.autograd.functional.hessian(loss, flat).numpy()


def test_eigenvalues_and_trace_are_those_of_the_whole_hessian() -> None:
    train, val = data()
    model = net(0)
    rows = spread_rows(ROWS, 20)
    hessian = whole_hessian(model, train[0][rows], train[1][rows])
    asked = Curvature(rows=20, iterations=43, probes=400)
    found = numbers(OfModels([model], train, val, "classification"), asked)
    values = np.linalg.eigvalsh(hessian)
    assert found["curvature/hessian_max"] == pytest.approx(values[-1], rel=1e-6)
    assert found["curvature/hessian_min"] == pytest.approx(values[0], rel=1e-6)
    # The space of all vectors leaves nothing to the random ones.
    assert found["curvature/hessian_trace"] == pytest.approx(np.trace(hessian), rel=1e-9)
    assert found["curvature/hessian_trace_se"] < 1e-9
    first = 0
    for name, parameter in model.named_parameters():
        block = np.diag(hessian)[first : first + parameter.numel()]
        assert found[f"curvature/{name}/hessian_trace"] == pytest.approx(block.sum(), rel=1e-6, abs=1e-9)
        first += parameter.numel()


def test_few_vectors_and_random_ones_estimate_the_trace_and_say_how_well() -> None:
    train, val = data()
    model = net(0)
    hessian = whole_hessian(model, *train)
    asked = Curvature(rows=ROWS, iterations=12, probes=400)
    found = numbers(OfModels([model], train, val, "classification"), asked)
    error = found["curvature/hessian_trace_se"]
    assert found["curvature/hessian_trace"] == pytest.approx(np.trace(hessian), abs=4 * error)
    by_layer = [value for name, value in found.items() if name.count("/") == 2]
    assert sum(by_layer) == pytest.approx(found["curvature/hessian_trace"], rel=1e-9)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(43, generator=generator).double()[None]
    basis = lanczos(lambda vectors: vectors @ torch.from_numpy(hessian), start, 12).basis[0].numpy()
    rest = np.eye(43) - basis.T @ basis
    left = rest @ hessian @ rest
    off = left - np.diag(np.diag(left))
    assert error == pytest.approx(np.sqrt(2 * np.sum(off**2) / 400), rel=0.25)  # Hutchinson's variance with signs
    plain = hessian - np.diag(np.diag(hessian))
    assert error < 0.6 * np.sqrt(2 * np.sum(plain**2) / 400)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_gauss_newton_trace_is_that_of_the_whole_matrix(task: str) -> None:
    train, val = data(classes=task == "classification")
    model = net(3) if task == "classification" else nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    total = 0.0
    for row in train[0]:
        weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
        jacobians = torch.func.jacrev(lambda state, row=row: functional_call(model, state, (row,)))(weights)
        jacobian = torch.cat([each.flatten(1) for each in jacobians.values()], 1)
        if task == "classification":
            shares = model(row).softmax(-1).detach()
            bend = torch.diag(shares) - torch.outer(shares, shares)
        else:
            bend = 2 * torch.eye(1).double()
        total += float(torch.trace(jacobian.T @ bend @ jacobian)) / ROWS
    asked = Curvature(rows=ROWS, iterations=2, probes=300)
    found = numbers(OfModels([model], train, val, task), asked)
    error = found["curvature/ggn_trace_se"]
    assert found["curvature/ggn_trace"] == pytest.approx(total, abs=4 * error)
    assert error < 0.1 * total


def test_adaptive_sharpness_does_not_change_where_layers_are_rescaled() -> None:
    train, val = data()
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)).double()
    other = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)).double()
    other.load_state_dict({"0.weight": 7 * model[0].weight, "2.weight": model[2].weight / 7})
    found = measured(OfModels([model, other], train, val, "classification"), {"c": Curvature()})
    adaptive, plain = found["curvature/adaptive_sharpness"], found["curvature/sharpness"]
    assert float(adaptive[0]) == pytest.approx(float(adaptive[1]), rel=1e-9)
    assert float(plain[0]) != pytest.approx(float(plain[1]), rel=0.5)
    # By hand, from the definition.
    names = [name for name, _ in model.named_parameters()]
    loss = nn.functional.cross_entropy(model(train[0]), train[1])
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    weights = [parameter.detach() for parameter in model.parameters()]
    length = sum(float((w * slope).square().sum()) for w, slope in zip(weights, gradients, strict=True)) ** 0.5
    moved = {
        name: weight + 0.5 * weight.square() * slope / length
        for name, weight, slope in zip(names, weights, gradients, strict=True)
    }
    after = nn.functional.cross_entropy(functional_call(model, moved, (train[0],)), train[1])
    assert float(adaptive[0]) == pytest.approx(float((after - loss).detach()), rel=1e-6)


def test_few_iterations_are_near_the_largest_one() -> None:
    train, val = data()
    model = net(1)
    values = np.linalg.eigvalsh(whole_hessian(model, *train))
    found = measured(OfModels([model], train, val, "classification"), {"c": Curvature(iterations=12)})
    assert float(found["curvature/hessian_max"]) == pytest.approx(values[-1], rel=1e-2)
    assert float(found["curvature/hessian_max"]) <= values[-1] * (1 + 1e-9)


def test_a_linear_regression_has_the_hessian_of_its_closed_form() -> None:
    train, val = data(classes=False)
    model = nn.Linear(4, 1, bias=False).double()
    asked = Curvature(rows=ROWS, iterations=10, probes=500, rho=0.1)
    found = numbers(OfModels([model], train, val, "regression"), asked)
    hessian = 2 * (train[0].T @ train[0] / ROWS).numpy()  # of the mean squared error, not halved
    assert found["curvature/hessian_max"] == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-9)
    assert found["curvature/hessian_min"] == pytest.approx(np.linalg.eigvalsh(hessian)[0], rel=1e-9)
    weight = model.weight.detach().numpy()[0]
    gradient = hessian @ (weight - 1)
    step = 0.1 * gradient / np.linalg.norm(gradient)
    assert found["curvature/sharpness"] == pytest.approx(gradient @ step + step @ hessian @ step / 2, rel=1e-9)
    # A random direction rises by rho^2 trace / (2 size) on average; its gradient averages out.
    spread = 0.1 * np.linalg.norm(gradient) / np.sqrt(4 * 500)
    assert found["curvature/random_sharpness"] == pytest.approx(0.01 * np.trace(hessian) / 8, abs=4 * spread)


def test_members_are_measured_as_they_are_alone() -> None:
    train, val = data()
    models = [net(seed) for seed in range(3)]
    joint = measured(OfModels(models, train, val, "classification"), {"c": Curvature()})
    for number, model in enumerate(models):
        for name, value in measured(OfModels([model], train, val, "classification"), {"c": Curvature()}).items():
            assert float(joint[name][number]) == pytest.approx(float(value[0]), rel=1e-6, abs=1e-9), name


def test_an_exhausted_space_adds_no_eigenvalue() -> None:
    matrix = torch.diag(torch.tensor([3.0, 3.0, 5.0, 5.0, 5.0], dtype=torch.float64))
    found = lanczos(lambda vectors: vectors @ matrix, torch.ones(1, 5, dtype=torch.float64), 5)
    assert (float(found.low), float(found.high)) == pytest.approx((3.0, 5.0), rel=1e-9)
    # What the space does not hold is left to the random vectors.
    rest = found.rest(torch.eye(5, dtype=torch.float64))
    left = torch.diag(rest @ matrix @ rest)
    torch.testing.assert_close(found.diagonal[0] + left, torch.diag(matrix))


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class OnceOnly(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return Rounded.apply(super().forward(inputs))


def test_a_model_without_second_derivatives_is_told_the_way_out() -> None:
    train, val = data()
    model = nn.Sequential(OnceOnly(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    with pytest.raises(UserError, match=r"second derivatives, .*leave curvature out of measure=\[\.\.\.\]"):
        measured(OfModels([model], train, val, "classification"), {"c": Curvature()})


def test_its_passes_through_the_model_are_within_what_it_says() -> None:
    train, val = data()
    model, seen = net(0), []
    model.register_forward_hook(lambda module, inputs, outputs: seen.append(len(inputs[0])))
    measure = Curvature(rows=20)
    measured(OfModels([model], train, val, "classification"), {"c": measure})
    assert sum(seen) <= measure.row_passes(ROWS)


@pytest.mark.parametrize(
    "wrong", [{"probes": 1}, {"iterations": 0}, {"rho": 0.0}, {"adaptive_rho": -1}, {"rows": 0}, {"every": "never"}]
)
def test_numbers_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Curvature(**wrong)
