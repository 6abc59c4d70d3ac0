import math

import pytest
import torch
from torch import nn

from reglab.regularizers import MaxNorm
from reglab.regularizers.units import cap_rows
from regularizers.loop import Loop, least_squares, linear
from shards import Parts, cut


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 2, 2), (6, 2, 3)])
def test_equals_torch_renorm_of_each_unit(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    limit = float(weight.flatten(1).norm(dim=1).median()) + 1e-3
    expected = torch.renorm(weight, p=2, dim=0, maxnorm=limit)
    capped = cap_rows(weight, torch.tensor(limit, dtype=torch.float64))
    torch.testing.assert_close(capped, expected, atol=0, rtol=1e-6)  # renorm divides by the norm + 1e-7
    inside = weight.flatten(1).norm(dim=1) <= limit
    assert 0 < inside.sum() < len(weight)
    assert torch.equal(capped[inside], weight[inside])


def test_is_the_nearest_point_of_the_ball():
    weight, limit = torch.tensor([[3.0, 4.0]], dtype=torch.float64), 2.0
    angles = torch.linspace(0, 2 * math.pi, 100_001, dtype=torch.float64)
    circle = limit * torch.stack([angles.cos(), angles.sin()], 1)
    nearest = circle[(circle - weight).norm(dim=1).argmin()]
    torch.testing.assert_close(cap_rows(weight, torch.tensor(limit))[0], nearest, atol=1e-3, rtol=0)


def test_a_unit_of_zeros_stays_and_infinity_caps_nothing():
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(cap_rows(weight, torch.tensor(1.0)), torch.tensor([[0.0, 0.0], [0.6, 0.8]]))
    for free in (weight, torch.tensor([[math.inf, 1.0]])):
        assert torch.equal(cap_rows(free, torch.tensor(math.inf)), free)


def test_after_every_step_no_unit_is_beyond_the_limit_and_biases_are_free():
    design, target = least_squares()
    model = nn.Sequential(linear(12, 5, bias=True), nn.Tanh(), linear(5, 1, bias=True))
    loop = Loop(model, {"cap": MaxNorm(0.5)}, lambda weights: torch.optim.SGD(weights, lr=0.3))
    for _ in range(10):
        loop.step(design, target + 5)
        for name in ("0.weight", "2.weight"):
            assert loop.weights[name].norm(dim=1).max() <= 0.5 + 1e-12
    assert loop.weights["2.weight"].norm() > 0.499  # the cap is what holds it
    assert loop.weights["2.bias"] > 4


@pytest.mark.parametrize("strength", [0, -1, math.nan])
def test_a_limit_that_is_not_positive_is_refused(strength):
    with pytest.raises(ValueError, match="strength"):
        MaxNorm(strength)


def test_biases_are_left_alone_where_all_is_selected():
    model = torch.nn.Linear(4, 3)
    bias = model.bias.detach().clone()
    with torch.no_grad():
        MaxNorm(0.01, where="all").on_step(model, {})
    assert torch.equal(model.bias, bias)
    assert float(model.weight.detach().norm(dim=1).max()) <= 0.01 * (1 + 1e-6)


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("shape", [(4, 7), (4, 3, 2, 2)])  # 4 units: with 3 and with 5 parts, some are empty
def test_units_that_are_dealt_out_are_capped_as_together(shape, parts):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    limit = float(weight.flatten(1).norm(dim=1).median())
    shards = cut(weight, parts)
    for shard in shards:
        MaxNorm(limit, where="all").on_step(Parts({"weight": shard, "bias": torch.ones(len(shard))}), {})
    expected = torch.renorm(weight, p=2, dim=0, maxnorm=limit)
    torch.testing.assert_close(torch.cat(shards), expected, atol=0, rtol=1e-6)  # renorm divides by the norm + 1e-7
    assert not torch.allclose(expected, weight)
