import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from reglab.core.errors import UserError
from reglab.models import CNN, MLP
from reglab.regularizers import Cocktail, Dropout
from reglab.regularizers.dropout import drop


class Functional(nn.Module):
    """Its activation is no module: there is nothing to put a dropout module behind."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, inputs):
        return self.last(functional.relu(self.second(functional.relu(self.first(inputs)))))


def identity(width, layers=2, dtype=torch.float32):
    """Return linear maps that change nothing, so that what comes out is what dropout made of the
    inputs.
    """
    stack = nn.Sequential(*[nn.Linear(width, width, bias=False, dtype=dtype) for _ in range(layers)])
    for layer in stack:
        nn.init.eye_(layer.weight)
    return stack


def prepared(model, rate=0.5, seed=0, name="dropout"):
    cocktail = Cocktail({name: Dropout(rate)}, seed, "classification")
    return cocktail.prepare(model).train(), cocktail


def masked(rows, width, rate=0.5, seed=0, step=0, index=None, name="dropout"):
    """Return what dropout makes of ones."""
    model, cocktail = prepared(identity(width), rate, seed, name)
    cocktail.keys.step.fill_(step)
    cocktail.keys.index = torch.arange(rows) if index is None else index
    return model(torch.ones(rows, width)).detach()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drops_at_its_rate_and_scales_what_is_kept(rate):
    outputs = masked(500, 80, rate)
    kept = outputs != 0
    torch.testing.assert_close(outputs[kept], torch.full_like(outputs[kept], 1 / (1 - rate)))
    assert stats.binomtest(int(kept.sum()), kept.numel(), 1 - rate).pvalue > 1e-3
    for axis in (0, 1):  # no unit and no example is luckier than binomial chance
        counts = kept.sum(axis).double()
        draws = kept.shape[axis]
        spread = ((counts - draws * (1 - rate)).square() / (draws * rate * (1 - rate))).sum()
        assert stats.chi2.sf(float(spread), len(counts)) > 1e-3


@pytest.mark.parametrize("rate, expected", [(0.0, [3.0, 3.0, 3.0, 3.0]), (0.5, [0.0, 0.0, 6.0, 6.0])])
def test_a_draw_of_exactly_the_rate_keeps(rate, expected):
    draws = torch.tensor([0.0, 0.5 - 2**-24, 0.5, 1 - 2**-24])
    assert drop(torch.full((4,), 3.0), torch.tensor(rate, dtype=torch.float64), draws).tolist() == expected


def test_outputs_average_to_the_inputs():
    model, cocktail = prepared(identity(5, dtype=torch.float64), 0.3)
    inputs = torch.linspace(-2, 2, 5, dtype=torch.float64).expand(40_000, 5)
    cocktail.keys.index = torch.arange(40_000)
    outputs = model(inputs).detach()
    error = inputs[0].abs() * math.sqrt(0.3 / 0.7 / 40_000)
    assert bool(((outputs.mean(0) - inputs[0]).abs() <= 4 * error).all())


def test_expected_loss_of_a_linear_model_is_a_ridge_penalty():
    """``E (y - w x~)^2 = (y - w x)^2 + rate / (1 - rate) * sum w^2 x^2`` (Wager, Wang & Liang
    2013).
    """
    layer = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    model, cocktail = prepared(layer, 0.4)
    inputs, target, draws = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64), 0.7, 200_000
    cocktail.keys.index = torch.arange(draws)
    losses = (target - model(inputs.expand(draws, 4)).squeeze(1)).square().detach()
    weight = layer.weight[0].detach()
    expected = (target - weight @ inputs).square() + 0.4 / 0.6 * (weight * inputs).square().sum()
    assert abs(losses.mean() - expected) < 4 * losses.std() / math.sqrt(draws)


def test_an_example_has_the_same_mask_wherever_it_stands_in_the_batch():
    index = torch.tensor([7, 3, 100_000, 0, 42])
    together = masked(5, 60, index=index)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.equal(masked(5, 60, index=index[order]), together[order])
    assert torch.equal(masked(2, 60, index=index[3:]), together[3:])


def test_masks_differ_between_examples_steps_seeds_and_members():
    base = masked(4, 60)
    others = [masked(4, 60, step=1), masked(4, 60, seed=1), masked(4, 60, name="dropout_2"), base.roll(1, 0)]
    for other in others:
        assert 60 < int((base != other).sum()) < 180  # half of 240, within nearly 8 standard deviations


def test_each_site_has_masks_of_its_own():
    model, cocktail = prepared(identity(60, layers=3))
    cocktail.keys.index = torch.arange(10)
    observed = []
    model[1].register_forward_hook(lambda layer, inputs, outputs: observed.append(outputs.detach() != 0))
    outputs = model(torch.ones(10, 60)).detach()
    second = outputs[observed[0]] != 0  # of what the first mask kept, the second keeps half again
    assert stats.binomtest(int(second.sum()), second.numel(), 0.5).pvalue > 1e-3


def test_at_rate_zero_and_in_evaluation_outputs_are_the_inputs_bit_for_bit():
    inputs = torch.randn(20, 6)
    bare = Functional()
    expected = bare(inputs)
    dropped, cocktail = prepared(bare, 0.9)
    cocktail.keys.index = torch.arange(20)
    assert not torch.equal(dropped(inputs), expected)
    assert torch.equal(dropped.eval()(inputs), expected)
    cocktail.members["dropout"].strength.fill_(0)
    assert torch.equal(dropped.train()(inputs), expected)


@pytest.mark.parametrize(
    "model, shape, sites",
    [
        (Functional(), (6,), ["second", "last"]),
        (MLP(8, 2, inputs=6, outputs=3), (6,), ["hidden.1.linear", "head"]),
        (CNN([4, 5], inputs=(2, 8, 8), outputs=3), (2, 8, 8), ["head"]),
        (nn.Linear(6, 3), (6,), [""]),
        (nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), (6,), ["1"]),
    ],
    ids=["functional", "mlp", "cnn", "one layer", "norm and one layer"],
)
def test_it_stands_before_the_inner_linear_layers_and_on_the_inputs_of_a_single_one(model, shape, sites):
    names = list(model.state_dict())
    model, cocktail = prepared(model)
    assert [name for name, layer in model.named_modules() if layer._forward_pre_hooks] == sites
    assert list(model.state_dict()) == names
    inputs = torch.randn(12, *shape)
    cocktail.keys.index = torch.arange(12)
    assert not torch.equal(model(inputs), model.eval()(inputs))


def test_examples_folded_with_tokens_keep_a_mask_for_each_token():
    model, cocktail = prepared(identity(20))
    cocktail.keys.index = torch.arange(6)
    tokens = model(torch.ones(6, 3, 20)).detach()
    cocktail.keys.begin()
    assert torch.equal(model(torch.ones(18, 20)).detach(), tokens.reshape(18, 20))
    assert not torch.equal(tokens[:, 0], tokens[:, 1])


def test_a_batch_that_does_not_hold_the_examples_is_refused():
    model, cocktail = prepared(identity(5))
    cocktail.keys.index = torch.arange(4)
    with pytest.raises(ValueError, match=r"dropout at '1': a shape of \(3, 5\) does not hold 4 examples"):
        model(torch.ones(3, 5))


def test_a_model_without_a_linear_layer_to_stand_before_is_refused():
    with pytest.raises(UserError, match=r"regularizer\.dropout: dropout found no nn\.Linear"):
        prepared(nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 2, 3)))


@pytest.mark.parametrize("rate", [1.0, -0.1, math.nan])
def test_a_rate_outside_zero_to_one_is_refused(rate):
    with pytest.raises(ValueError, match="strength must be finite and >= 0 and < 1"):
        Dropout(rate)
