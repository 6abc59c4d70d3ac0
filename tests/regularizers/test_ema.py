import contextlib
import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from reglab.errors import UserError
from reglab.regularizers import EMA, Cocktail
from regularizers.loop import Loop, least_squares, linear
from shards import cut_cocktail, cut_model, joined

DESIGN, TARGET = least_squares()


def loop_with(decay, dtype=torch.float64):
    model = nn.Sequential(linear(12, 5, bias=True), nn.Tanh(), linear(5, 1, bias=True)).to(dtype)
    return Loop(model, {"ema": EMA(decay)}, lambda weights: torch.optim.SGD(weights, lr=0.1))


def averaged(loop):
    with loop.cocktail.evaluating(loop.model):
        return {name: weight.detach().clone() for name, weight in loop.model.named_parameters()}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_equals_a_recursion_in_numpy(decay):
    loop = loop_with(decay)
    average = {name: weight.detach().numpy().copy() for name, weight in loop.weights.items()}
    for step in range(30):
        loop.step(DESIGN, TARGET)
        held = min(decay, (1 + step) / (10 + step))
        for name, weight in loop.weights.items():
            average[name] = held * average[name] + (1 - held) * weight.detach().numpy()
    for name, found in averaged(loop).items():
        np.testing.assert_allclose(found.numpy(), average[name], atol=1e-12, rtol=0)


def test_equals_the_average_of_torch_where_the_decay_is_never_held_back():
    loop = loop_with(0.1)  # (1 + step) / (10 + step) is never below it
    reference = AveragedModel(copy.deepcopy(loop.model), multi_avg_fn=get_ema_multi_avg_fn(0.1))
    reference.update_parameters(loop.model)  # the first call copies
    for _ in range(10):
        loop.step(DESIGN, TARGET)
        reference.update_parameters(loop.model)
    for name, found in averaged(loop).items():
        torch.testing.assert_close(found, reference.module.get_parameter(name).detach(), atol=1e-12, rtol=0)


def test_training_itself_is_untouched():
    bare = Loop(copy.deepcopy(loop_with(0.9).model), {}, lambda weights: torch.optim.SGD(weights, lr=0.1))
    with_average = loop_with(0.9)
    for _ in range(5):
        bare.step(DESIGN, TARGET)
        with_average.step(DESIGN, TARGET)
        averaged(with_average)
    for name, weight in bare.weights.items():
        assert torch.equal(with_average.weights[name], weight)


def test_the_weights_come_back_bit_for_bit_also_when_evaluation_fails():
    loop = loop_with(0.9).run(DESIGN, TARGET, 3)
    before = {name: weight.detach().clone() for name, weight in loop.weights.items()}
    swapped = averaged(loop)
    assert any(not torch.equal(swapped[name], weight) for name, weight in before.items())
    with pytest.raises(RuntimeError, match="metric"), loop.cocktail.evaluating(loop.model):
        raise RuntimeError("metric")
    for name, weight in loop.weights.items():
        assert torch.equal(weight, before[name])
        assert weight.requires_grad


def test_before_any_step_the_average_is_the_initial_weights():
    loop = loop_with(0.9)
    for name, found in averaged(loop).items():
        assert torch.equal(found, loop.weights[name])


def test_averaging_goes_on_from_a_checkpoint():
    whole, first, second = loop_with(0.9), loop_with(0.9), loop_with(0.9)
    whole.run(DESIGN, TARGET, 8)
    first.run(DESIGN, TARGET, 4)
    second.cocktail.load_state_dict(first.cocktail.state_dict())
    second.model.load_state_dict(first.model.state_dict())
    second.run(DESIGN, TARGET, 4)
    for name, found in averaged(second).items():
        assert torch.equal(found, averaged(whole)[name])


def test_in_bfloat16_the_average_still_moves():
    loop = loop_with(0.999, torch.float32)
    loop.cocktail.to(torch.bfloat16)
    loop.model.to(torch.bfloat16)
    assert float(loop.cocktail.members["ema"].strength) == 0.999
    loop.cocktail.members["ema"].updates.fill_(1e6)  # past the warm-up
    name = "0.weight"
    before = loop.cocktail.members["ema"].average_0__weight.clone()
    with torch.no_grad():
        loop.weights[name].fill_(1.0)
    loop.cocktail.after_step(loop.model, {})
    expected = 0.999 * before + 0.001
    found = loop.cocktail.members["ema"].average_0__weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_two_averages_are_refused():
    with pytest.raises(UserError, match="both own the weight average"):
        Cocktail({"a": EMA(), "b": EMA()}, 0, "regression")


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_outside_zero_to_one_is_refused(decay):
    with pytest.raises(ValueError, match="strength must be finite and >= 0 and < 1"):
        EMA(decay)


def test_it_says_which_buffer_belongs_to_which_parameter_and_old_checkpoints_fit():
    cocktail = loop_with(0.9).cocktail
    assert cocktail.members["ema"].shaped == {
        "average_0__weight": "0.weight", "average_0__bias": "0.bias",
        "average_2__weight": "2.weight", "average_2__bias": "2.bias",
    }  # fmt: skip
    averages = {f"members.ema.average_{layer}__{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
    assert set(cocktail.state_dict()) == averages | {
        "keys.seed", "keys.step", "members.ema.strength", "members.ema.updates",
    }  # fmt: skip


@pytest.mark.parametrize("parts", [2, 3, 5])  # of 5 rows and of 1: some ranks have none
def test_parts_are_averaged_and_swapped_in_as_the_whole_is(parts):
    loop = loop_with(0.9)
    cocktails = cut_cocktail(loop.cocktail, parts, total=None)
    own = cut_model(loop.model, parts)
    for _ in range(3):
        loop.step(DESIGN, TARGET)
        own = cut_model(loop.model, parts)
        for cocktail, part in zip(cocktails, own, strict=True):
            cocktail.after_step(part, {})
    with contextlib.ExitStack() as stack:
        for cocktail, part in zip(cocktails, own, strict=True):
            stack.enter_context(cocktail.evaluating(part))
        swapped = {name: weight.clone() for name, weight in joined(own).items()}
    expected = averaged(loop)
    for name, weight in loop.weights.items():
        assert torch.equal(swapped[name], expected[name])
        assert torch.equal(joined(own)[name], weight)
