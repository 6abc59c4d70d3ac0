import contextlib
import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from reglab.core.errors import UserError
from reglab.regularizers import EMA, Cocktail
from regularizers.loop import Loop, least_squares, linear
from shards import cut_cocktail, cut_model, joined

DESIGN, TARGET = least_squares()


def loop_with(decay, dtype=torch.float64, warmup=9):
    model = nn.Sequential(linear(12, 5, bias=True), nn.Tanh(), linear(5, 1, bias=True)).to(dtype)
    return Loop(model, {"ema": EMA(decay, warmup)}, lambda weights: torch.optim.SGD(weights, lr=0.1))


def averaged(loop):
    with loop.cocktail.evaluating(loop.model):
        return {name: weight.detach().clone() for name, weight in loop.model.named_parameters()}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("warmup", [0.0, 1.0, 9.0])
def test_equals_a_weighted_mean_of_the_weights_after_each_step(decay, warmup):
    loop = loop_with(decay, warmup=warmup)
    observed = []
    for _ in range(30):
        loop.step(DESIGN, TARGET)
        observed.append({name: weight.detach().numpy().copy() for name, weight in loop.weights.items()})
    held = [0.0, *(min(decay, step / (step + warmup)) for step in range(2, 31))]
    shares = [(1 - d) * np.prod(held[step + 1 :]) for step, d in enumerate(held)]
    assert sum(shares) == pytest.approx(1)
    average = {name: sum(s * w[name] for s, w in zip(shares, observed, strict=True)) for name in loop.weights}
    for name, actual in averaged(loop).items():
        np.testing.assert_allclose(actual.numpy(), average[name], atol=1e-12, rtol=0)


@pytest.mark.parametrize("decay", [0.1, 0.9, 0.9999])
def test_without_a_warm_up_it_is_the_average_of_torch(decay):
    loop = loop_with(decay, warmup=0)
    reference = AveragedModel(copy.deepcopy(loop.model), multi_avg_fn=get_ema_multi_avg_fn(decay))
    for _ in range(10):
        loop.step(DESIGN, TARGET)
        reference.update_parameters(loop.model)
    for name, actual in averaged(loop).items():
        torch.testing.assert_close(actual, reference.module.get_parameter(name).detach(), atol=1e-12, rtol=0)


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
    for name, actual in averaged(loop).items():
        assert torch.equal(actual, loop.weights[name])


def test_averaging_goes_on_from_a_checkpoint():
    whole, first, second = loop_with(0.9), loop_with(0.9), loop_with(0.9)
    whole.run(DESIGN, TARGET, 8)
    first.run(DESIGN, TARGET, 4)
    second.cocktail.load_state_dict(first.cocktail.state_dict())
    second.model.load_state_dict(first.model.state_dict())
    second.run(DESIGN, TARGET, 4)
    for name, actual in averaged(second).items():
        assert torch.equal(actual, averaged(whole)[name])


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
    actual = loop.cocktail.members["ema"].average_0__weight
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)


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
        "keys.seed", "keys.step", "members.ema.strength", "members.ema.updates", "members.ema.warmup",
    }  # fmt: skip


@pytest.mark.parametrize("parts", [2, 3, 5])  # of 5 rows and of 1: some ranks have none
def test_parts_are_averaged_and_swapped_in_as_the_whole_is(parts):
    loop = loop_with(0.9)
    cocktails = cut_cocktail(loop.cocktail, parts, total=None)
    local = cut_model(loop.model, parts)
    for _ in range(3):
        loop.step(DESIGN, TARGET)
        local = cut_model(loop.model, parts)
        for cocktail, part in zip(cocktails, local, strict=True):
            cocktail.after_step(part, {})
    with contextlib.ExitStack() as stack:
        for cocktail, part in zip(cocktails, local, strict=True):
            stack.enter_context(cocktail.evaluating(part))
        swapped = {name: weight.clone() for name, weight in joined(local).items()}
    expected = averaged(loop)
    for name, weight in loop.weights.items():
        assert torch.equal(swapped[name], expected[name])
        assert torch.equal(joined(local)[name], weight)


def test_a_warm_up_of_one_averages_evenly_and_the_initial_weights_do_not_count():
    loop = loop_with(1 - 1e-12, warmup=1)
    observed = []
    for _ in range(7):
        loop.step(DESIGN, TARGET)
        observed.append(loop.weights["0.weight"].detach().clone())
    # An even mean of steps 1 to 7 but that the first counts twice: (1 + 1) / (7 + 1).
    expected = (torch.stack(observed).sum(0) + observed[0]) / 8
    torch.testing.assert_close(averaged(loop)["0.weight"], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("warmup, steps", [(9, 300), (9, 2), (1, 50), (0, 50), (100, 1)])
def test_it_tells_from_which_decay_on_nothing_changes(warmup, steps):
    most = EMA(0.5, warmup).most(steps)

    def after(decay):
        loop = loop_with(decay, warmup=warmup)
        loop.run(DESIGN, TARGET, steps)
        return averaged(loop)["0.weight"]

    if 0 < most < 1:
        assert torch.equal(after(most), after((1 + most) / 2))
        assert not torch.equal(after(most), after(most - 1e-3))
        assert EMA(most, warmup).advice(steps) is None
        assert f"{steps} steps no decay above {most:.4g}" in EMA((1 + most) / 2, warmup).advice(steps)
    elif most == 1:
        assert EMA(0.9999, warmup).advice(steps) is None
        assert not torch.equal(after(0.9999), after(0.999))
    else:
        assert torch.equal(after(0.0), after(0.99))


def with_norm():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 1)).double()


def test_the_statistics_of_batchnorm_are_averaged_as_the_weights_are_and_come_back():
    loop = Loop(with_norm(), {"ema": EMA(0.5)}, lambda weights: torch.optim.SGD(weights, lr=0.1))
    average = None
    for step in range(1, 6):
        loop.step(DESIGN, TARGET)
        now = loop.model[1].running_var.numpy().copy()
        held = min(0.5, step / (step + 9)) if step > 1 else 0
        average = now if average is None else held * average + (1 - held) * now
    local, count = loop.model[1].running_var.clone(), loop.model[1].num_batches_tracked.clone()
    with loop.cocktail.evaluating(loop.model):
        np.testing.assert_allclose(loop.model[1].running_var.numpy(), average, rtol=1e-12)
        assert not torch.equal(loop.model[1].running_var, local)
        assert torch.equal(loop.model[1].num_batches_tracked, count)
    assert torch.equal(loop.model[1].running_var, local)


def test_a_checkpoint_from_before_there_were_a_warm_up_and_statistics_is_read():
    loop = Loop(with_norm(), {"ema": EMA(0.5, warmup=9)}, lambda weights: torch.optim.SGD(weights, lr=0.1))
    loop.run(DESIGN, TARGET, 4)
    holder = nn.Module()
    holder.model, holder.cocktail = loop.model, loop.cocktail
    old = {name: tensor for name, tensor in holder.state_dict().items() if "warmup" not in name}
    old = {name: tensor for name, tensor in old.items() if "average_1__running" not in name}
    other = Loop(with_norm(), {"ema": EMA(0.5, warmup=3)}, lambda weights: torch.optim.SGD(weights, lr=0.1))
    fresh = nn.Module()
    fresh.model, fresh.cocktail = other.model, other.cocktail
    other.cocktail.complete(old)
    fresh.load_state_dict(old)
    assert float(other.cocktail.members["ema"].warmup) == 9
    with other.cocktail.evaluating(other.model):
        assert torch.equal(other.model[1].running_var, loop.model[1].running_var)
        assert torch.equal(other.model[0].weight, loop.cocktail.members["ema"].average_0__weight)
