"""Symmetric Beta draws have the bits of the plain functions that they were, batched, compiled or
differentiated.
"""

import math

import pytest
import torch
from torch import Tensor

from reglab.rng import counter_rng
from reglab.rng.beta import PROPOSALS, symmetric_beta_draw

ALPHAS = [0.0, 1e-3, 0.1, 0.2, 0.4, 1.0, 3.0, 50.0, 1e6]
MASK = 2**64 - 1
GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def plain_log_gamma(shape: Tensor, stream: Tensor) -> Tensor:
    """One draw, operation by operation: what mixup drew by before there was an operator."""
    counter = torch.arange(16)
    d = shape + 2.0 / 3.0
    normal = counter_rng.normal(counter_rng.key(stream, 0), counter).to(shape.dtype)
    uniform = 1 - counter_rng.uniform(counter_rng.key(stream, 1), counter).to(shape.dtype)
    root = 1 + normal / (9 * d).sqrt()
    cube = root.clamp(min=1e-6) ** 3
    accepted = (root > 0) & (uniform.log() < 0.5 * normal.square() + d * (1 - cube + cube.log()))
    first = accepted.to(torch.uint8).argmax()
    boost = 1 - counter_rng.uniform(counter_rng.key(stream, 2), counter[:1]).to(shape.dtype)[0]
    return (d * cube.gather(0, first[None])[0]).log() + boost.log() / shape


def plain_beta(alpha: Tensor, stream: Tensor) -> Tensor:
    safe = torch.where(alpha > 0, alpha, torch.ones_like(alpha))
    first = plain_log_gamma(safe, counter_rng.key(stream, 0))
    second = plain_log_gamma(safe, counter_rng.key(stream, 1))
    return torch.where(alpha > 0, torch.sigmoid(first - second), torch.ones_like(alpha))


def splitmix(state: int) -> int:
    state = ((state ^ (state >> 30)) * MIX1) & MASK
    state = ((state ^ (state >> 27)) * MIX2) & MASK
    return state ^ (state >> 31)


def key(first: int, second: int) -> int:
    return splitmix((splitmix((first + GOLDEN) & MASK) * MIX2 + second + GOLDEN) & MASK)


def integer_uniform(stream: int, counter: int) -> float:
    return (splitmix((stream + (counter + 1) * GOLDEN) & MASK) >> 40) / 2**24


def integer_log_gamma(shape: float, stream: int) -> float:
    """Marsaglia & Tsang in Python's integers and floats, one proposal after the other."""
    d = shape + 2 / 3
    for proposal in range(16):
        first = 1 - integer_uniform(key(stream, 0), 2 * proposal)
        second = integer_uniform(key(stream, 0), 2 * proposal + 1)
        wide = math.sqrt(-2 * math.log(first)) * math.cos(2 * math.pi * second)
        normal = float(torch.tensor(wide, dtype=torch.float32))
        cube = (1 + normal / math.sqrt(9 * d)) ** 3
        test = 1 - integer_uniform(key(stream, 1), proposal)
        if cube > 0 and math.log(test) < 0.5 * normal**2 + d * (1 - cube + math.log(cube)):
            break
    return math.log(d * cube) + math.log(1 - integer_uniform(key(stream, 2), 0)) / shape


def cases(keys: int) -> tuple[Tensor, Tensor]:
    alphas = torch.tensor(ALPHAS, dtype=torch.float64).repeat_interleave(keys)
    return alphas, torch.vmap(lambda step: counter_rng.key(7, step))(torch.arange(len(alphas)))


def plain(alphas: Tensor, streams: Tensor) -> Tensor:
    return torch.stack([plain_beta(alpha, stream) for alpha, stream in zip(alphas, streams, strict=True)])


def test_each_draw_has_the_bits_of_the_plain_function() -> None:
    alphas, streams = cases(40)
    drawn = [symmetric_beta_draw(alpha, stream) for alpha, stream in zip(alphas, streams, strict=True)]
    assert torch.equal(torch.stack(drawn), plain(alphas, streams))


def test_it_agrees_with_python_integers() -> None:
    alphas, streams = cases(40)
    for alpha, stream, drawn in zip(
        *(each.tolist() for each in (alphas, streams)), symmetric_beta_draw(alphas, streams).tolist(), strict=True
    ):
        if alpha == 0:
            assert drawn == 1
            continue
        first, second = (integer_log_gamma(alpha, key(stream & MASK, which)) for which in (0, 1))
        expected = 1 / (1 + math.exp(min(second - first, 700)))
        assert drawn == pytest.approx(expected, rel=1e-11 * max(1, abs(second - first)), abs=1e-300)


@pytest.mark.parametrize("members", [1, 2, 7, 8, 9, 64, 333])
def test_in_a_pack_of_any_size_each_member_draws_its_solo_bits(members: int) -> None:
    alphas, streams = (each[-members:] for each in cases(40))
    solo = torch.stack([symmetric_beta_draw(alpha, stream) for alpha, stream in zip(alphas, streams, strict=True)])
    assert torch.equal(torch.vmap(symmetric_beta_draw)(alphas, streams), solo)
    assert torch.equal(symmetric_beta_draw(alphas, streams), solo)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (1, 0), (0, 1)])
def test_mapped_axes_may_be_any(axes: tuple[int | None, int | None]) -> None:
    alphas, streams = (each[:12].reshape(3, 4) for each in cases(2))
    alphas, streams = (
        each[0, 0] if axis is None else each.movedim(0, axis)
        for each, axis in zip((alphas, streams), axes, strict=True)
    )
    got = torch.vmap(symmetric_beta_draw, in_dims=axes)(alphas, streams)
    for row in range(3):
        one = [
            each if axis is None else each.select(axis, row) for each, axis in zip((alphas, streams), axes, strict=True)
        ]
        assert torch.equal(got[row], symmetric_beta_draw(*one))


def test_twice_mapped_with_one_alpha_for_all() -> None:
    alphas, streams = cases(4)
    streams = streams.reshape(6, 6)
    got = torch.vmap(torch.vmap(symmetric_beta_draw, in_dims=(None, 0)), in_dims=(None, 0))(alphas[-1], streams)
    assert torch.equal(got.flatten(), plain(alphas[-1].expand(36), streams.flatten()))


def test_gradients_pass_by() -> None:
    """In a loss of weights that it scales, solo and under ``torch.func``; alpha itself
    gets none.
    """
    alpha, stream = torch.tensor(0.4, dtype=torch.float64, requires_grad=True), counter_rng.key(1, 2)
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)

    def loss(weight: Tensor) -> Tensor:
        return (symmetric_beta_draw(alpha, stream) * weight.square()).sum()

    share = float(symmetric_beta_draw(alpha, stream))
    actual = torch.autograd.grad(loss(weight), [weight, alpha], allow_unused=True)
    assert torch.equal(actual[0], torch.full((3,), 2 * share, dtype=torch.float64))
    assert actual[1] is None
    assert torch.equal(torch.func.grad(loss)(weight.detach()), actual[0])
    both = torch.vmap(torch.func.grad(loss))(torch.stack([weight.detach()] * 2))
    assert torch.equal(both, torch.stack([actual[0]] * 2))


def test_the_operator_keeps_what_torch_asks_of_one() -> None:
    alphas, streams = cases(2)
    torch.library.opcheck(torch.ops.reglab.symmetric_beta.default, (alphas, streams))
    torch.library.opcheck(torch.ops.reglab.symmetric_beta.default, (alphas[0], streams))


def test_nothing_of_it_looks_at_values() -> None:
    """On the meta device there are none: what runs there cannot wait for an accelerator."""
    alphas, streams = (each.to("meta") for each in cases(2))
    from reglab.rng import beta

    assert beta._draw(alphas, streams).shape == alphas.shape


def test_all_proposals_fail_never() -> None:
    assert PROPOSALS * math.log(0.05) < math.log(1e-20)
