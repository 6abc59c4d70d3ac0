"""Norms of units' incoming weights, beside what each unit's output is given: an oracle that knows
no axes.
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from reglab.core.errors import UserError
from reglab.regularizers import Cocktail, MaxNorm
from shards import Ranks, cut_cocktail, cut_model, joined

LIMIT = 0.3


class Conv1D(nn.Module):
    """As transformers has it in GPT-2: a Linear whose weight is transposed."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, inputs):
        return inputs @ self.weight + self.bias


class Last(nn.Module):
    """The layer, its outputs turned so that units come last."""

    def __init__(self, layer, axis=-1):
        super().__init__()
        self.layer = layer
        self.axis = axis

    def forward(self, inputs):
        return self.layer(inputs).movedim(self.axis, -1)


CASES = {
    "Linear": (lambda: nn.Linear(6, 4), (6,), -1),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3), (4, 9), 1),
    "Conv2d, groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 7, 7), 1),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(6, 4, 3), (6, 5), 1),
    "ConvTranspose1d, stride": (lambda: nn.ConvTranspose1d(6, 4, 3, stride=3), (6, 5), 1),
    "ConvTranspose2d, groups": (lambda: nn.ConvTranspose2d(6, 8, 2, groups=2), (6, 5, 5), 1),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(4, 3, 2), (4, 3, 3, 3), 1),
    "Conv1D of transformers": (lambda: Conv1D(4, 6), (6,), -1),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(6, 4)), (6,), -1),
}


def made(case):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        build, shape, axis = CASES[case]
        return Last(build(), axis).double(), torch.randn(3, *shape, dtype=torch.float64)


def reach(model, inputs, unit):
    """Return the norm of all that a unit can be given: of its effective weights, found by a
    gradient through them.

    The weights of a unit are those entries that its outputs depend on.
    """
    with parametrize.cached():
        weight = model.layer.weight  # what its units are given, also where it is parametrized
        (gradient,) = torch.autograd.grad(model(inputs)[..., unit].sum(), weight)
    return float(weight.detach()[gradient != 0].norm())


@pytest.mark.parametrize("case", CASES)
def test_each_unit_is_capped_by_the_weights_that_its_outputs_depend_on(case):
    model, inputs = made(case)
    units = model(inputs).shape[-1]
    before = [reach(model, inputs, unit) for unit in range(units)]
    limit = sorted(before)[units // 2] * 0.999  # some are above it, some are not
    cocktail = Cocktail({"cap": MaxNorm(limit)}, 0, "classification")
    cocktail.prepare(model)
    cocktail.after_step(model, {})
    assert [reach(model, inputs, unit) for unit in range(units)] == pytest.approx([min(norm, limit) for norm in before])
    assert 0 < sum(norm > limit for norm in before) < units


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("case", ["Linear", "Conv2d, groups", "ConvTranspose1d", "ConvTranspose2d, groups"])
def test_in_parts_of_the_first_axis_as_in_the_whole(case, parts):
    model, _ = made(case)
    cocktail, ranks = Cocktail({"cap": MaxNorm(LIMIT)}, 0, "classification"), Ranks(parts)
    cocktail.prepare(model)
    models, cocktails = cut_model(model, parts), cut_cocktail(cocktail, parts, ranks.add)
    for local, stand_in in zip(cocktails, models, strict=True):
        for name, part in stand_in.named_parameters():
            whole = model.get_parameter(name)
            rows = -(-len(whole) // parts) * models.index(stand_in)
            local.keys.begins_at(part, min(rows, len(whole)) * whole[:1].numel())
    ranks.run(lambda rank: cocktails[rank].after_step(models[rank], {}))
    before = copy.deepcopy(model)
    cocktail.after_step(model, {})
    assert not torch.equal(before.layer.weight, model.layer.weight)
    torch.testing.assert_close(joined(models), dict(model.named_parameters()), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "layer, rows",
    [
        (nn.Embedding(7, 3), 7),
        (nn.LSTM(3, 4), 16),
        (nn.GRUCell(3, 4), 12),
        (nn.MultiheadAttention(4, 2), 12),
        (nn.Bilinear(3, 4, 5), 5),
    ],
    ids=["Embedding", "LSTM", "GRUCell", "MultiheadAttention", "Bilinear"],
)
def test_rows_of_other_layers_are_their_units_and_nothing_else_is_capped(layer, rows):
    cocktail = Cocktail({"cap": MaxNorm(0.1, where="all")}, 0, "classification")
    model = cocktail.prepare(nn.Sequential(layer, nn.LayerNorm([2, 5])))
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0)
    cocktail.after_step(model, {})
    name, weight = next((name, weight) for name, weight in layer.named_parameters() if weight.ndim >= 2)
    assert len(weight) == rows, name
    torch.testing.assert_close(weight.flatten(1).norm(dim=1), torch.full((rows,), 0.1))
    kept = [w for n, w in model.named_parameters() if "bias" in n or n.startswith("1.")]
    assert all(bool((each == 1).all()) for each in kept)


def test_what_hides_the_norm_is_refused_and_can_be_left_out():
    model = nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 4)), nn.Linear(4, 2))
    with pytest.raises(
        UserError, match=r"regularizer\.cap: 0\.parametrizations\.weight\.original is parametrized.*where"
    ):
        Cocktail({"cap": MaxNorm(1.0)}, 0, "classification").prepare(model)
    cocktail = Cocktail({"cap": MaxNorm(0.01, where="1.weight")}, 0, "classification")
    cocktail.after_step(cocktail.prepare(model), {})
    assert float(model[1].weight.detach().norm(dim=1).max()) < 0.011
