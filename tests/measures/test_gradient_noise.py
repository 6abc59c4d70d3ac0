"""Gradient noise against loops over rows in NumPy, and its expectation over samples."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reglab.measures import GradientNoise, OfModels, measured


def part(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    return inputs, inputs.sum(1) + torch.randn(rows, generator=generator, dtype=torch.float64)


def linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(3, 1, bias=False).double()


def numbers(models: list[nn.Module], data: tuple[Tensor, Tensor], **changes: Any) -> dict[str, Tensor]:
    found = measured(OfModels(models, data, data, "regression"), {"noise": GradientNoise(**changes)})
    return {name.removeprefix("gradient_noise/"): value for name, value in found.items()}


def gradients(model: nn.Linear, rows: tuple[Tensor, Tensor]) -> np.ndarray:
    inputs, targets = (each.numpy() for each in rows)
    return 2 * (inputs @ model.weight.detach().numpy()[0] - targets)[:, None] * inputs


def test_batches_of_single_rows_give_the_sample_covariance() -> None:
    model, rows = linear(), part(40)
    found = {name: float(value) for name, value in numbers([model], rows, batches=40).items()}
    each = gradients(model, rows)
    trace = np.trace(np.cov(each.T))
    squared = (each.mean(0) ** 2).sum() - trace / 40
    assert found == pytest.approx({"trace": trace, "squared_norm": squared, "scale": trace / squared}, rel=1e-9)


def test_both_estimates_are_unbiased_over_samples_of_rows() -> None:
    model, many = linear(), part(200_000, seed=5)
    each = gradients(model, many)
    truth = {"trace": np.trace(np.cov(each.T)), "squared_norm": (each.mean(0) ** 2).sum()}
    drawn: dict[str, list[float]] = {name: [] for name in truth}
    for seed in range(150):
        found = numbers([model], part(32, seed + 10), batches=4)
        for name in truth:
            drawn[name].append(float(found[name]))
    for name, value in truth.items():
        error = np.std(drawn[name]) / np.sqrt(len(drawn[name]))
        assert np.mean(drawn[name]) == pytest.approx(value, abs=4 * error), name


def test_at_a_minimum_there_is_no_scale() -> None:
    model, rows = linear(), part(40)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(rows[0], rows[1].unsqueeze(1)).solution.T)
    found = numbers([model], rows)
    assert float(found["trace"]) > 0
    assert float(found["squared_norm"]) < 0
    assert bool(found["scale"].isnan())


def test_members_are_measured_as_they_are_alone_and_no_global_generator_moves() -> None:
    torch.manual_seed(0)
    models: list[nn.Module] = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double() for _ in range(3)]
    before = torch.get_rng_state()
    joint = numbers(models, part(37), rows=30, batches=4)
    assert torch.equal(torch.get_rng_state(), before)
    for number, model in enumerate(models):
        for name, value in numbers([model], part(37), rows=30, batches=4).items():
            assert float(joint[name][number]) == pytest.approx(float(value[0]), rel=1e-9), name


@pytest.mark.parametrize("wrong", [{"batches": 1}, {"batches": True}, {"rows": 0}])
def test_numbers_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GradientNoise(**wrong)
