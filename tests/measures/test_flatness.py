"""Flatness against closed forms of quadratic losses, and scaling laws."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reglab.measures import Flatness, OfModels, measured

ROWS = 30


def regression(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(ROWS, 4, generator=generator, dtype=torch.float64)
    return inputs, inputs @ torch.ones(4).double()


def numbers(model: nn.Module, part: tuple[Tensor, Tensor], task: str, **changes: Any) -> dict[str, float]:
    initial = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    of = OfModels([model], part, part, task, [initial])
    found = measured(of, {"flatness": Flatness(**changes)})
    return {name.removeprefix("flatness/"): float(value) for name, value in found.items()}


def test_sigma_of_a_linear_regression_is_that_of_its_hessian() -> None:
    """The loss is ``|X w - y|^2 / n``: noise ``z`` of both signs raises it by ``sigma^2 z'X'X z / n``."""
    torch.manual_seed(0)
    part, model = regression(), nn.Linear(4, 1, bias=False).double()
    found = numbers(model, part, "regression", probes=40, rise=0.05)
    generator = torch.Generator().manual_seed(0)
    draws = np.stack([torch.randn(4, generator=generator).numpy() for _ in range(40)])
    gram, weight = (part[0].T @ part[0] / ROWS).numpy(), model.weight.detach().numpy()[0]
    for name, scale in (("sigma", np.ones(4)), ("relative_sigma", abs(weight))):
        matrix = gram * np.outer(scale, scale)
        mean = np.mean([draw @ matrix @ draw for draw in draws])
        assert found[name] == pytest.approx(math.sqrt(0.05 / mean), rel=1e-3)
        spread = math.sqrt(2 * (matrix**2).sum() / 40)
        assert mean == pytest.approx(np.trace(matrix), abs=4 * spread)  # standard normal ones
    assert found["distance_over_sigma"] == pytest.approx(np.linalg.norm(weight) / found["sigma"], rel=1e-6)


def test_four_times_the_rise_takes_twice_the_noise() -> None:
    torch.manual_seed(0)
    part, model = regression(), nn.Linear(4, 1).double()
    small, large = (numbers(model, part, "regression", rise=rise) for rise in (0.02, 0.08))
    for name in ("sigma", "relative_sigma"):
        assert large[name] == pytest.approx(2 * small[name], rel=3e-3)


def test_relative_noise_does_not_see_how_a_relu_network_is_scaled() -> None:
    torch.manual_seed(0)
    part = (torch.randn(ROWS, 4).double(), torch.randint(0, 3, (ROWS,)))
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)).double()
    before = numbers(model, part, "classification")
    with torch.no_grad():
        model[0].weight.mul_(10)
        model[2].weight.div_(10)
    after = numbers(model, part, "classification")
    assert after["relative_sigma"] == pytest.approx(before["relative_sigma"], rel=1e-6)
    assert after["sigma"] < 0.7 * before["sigma"]


def test_a_loss_that_never_rises_has_the_largest_sigma() -> None:
    model, part = nn.Linear(4, 1, bias=False).double(), regression()
    still = (torch.zeros_like(part[0]), part[1])
    assert numbers(model, still, "regression")["sigma"] == pytest.approx(10, rel=2e-3)


def test_members_are_measured_as_they_are_alone_and_no_global_generator_moves() -> None:
    torch.manual_seed(0)
    part, models = regression(), [nn.Linear(4, 1).double() for _ in range(3)]
    before = torch.get_rng_state()
    joint = measured(OfModels(models, part, part, "regression"), {"f": Flatness(rows=20)})
    assert torch.equal(torch.get_rng_state(), before)
    for number, model in enumerate(models):
        for name, value in measured(OfModels([model], part, part, "regression"), {"f": Flatness(rows=20)}).items():
            assert float(joint[name][number]) == pytest.approx(float(value[0]), rel=1e-9), name


def test_its_passes_through_the_model_are_within_what_it_says() -> None:
    model, seen = nn.Linear(4, 1).double(), []
    model.register_forward_hook(lambda module, inputs, outputs: seen.append(len(inputs[0])))
    part, measure = regression(), Flatness(rows=20, probes=2)
    measured(OfModels([model], part, part, "regression"), {"f": measure})
    assert sum(seen) <= measure.row_passes(ROWS)


@pytest.mark.parametrize("wrong", [{"probes": 0}, {"rise": 0.0}, {"rise": math.inf}, {"rows": 0}])
def test_numbers_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Flatness(**wrong)
