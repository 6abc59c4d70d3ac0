"""Symmetric Beta draws as one custom operator, which compilers do not inline.

Inlined, the integer operations of the rejection sampler are repeated in every kernel that needs the
draw, and Inductor takes minutes (tests/laws/test_compiles.py counts). The operator runs on any
device without waiting for it.
"""

from typing import Any

import torch
from torch import Tensor

from reglab.rng import counter_rng

PROPOSALS = 16  # each is accepted with probability > 0.95, so all fail once in 10^20 draws


def symmetric_beta_draw(alpha: Tensor, stream: Tensor) -> Tensor:
    """Return a Beta(alpha, alpha) draw for each element, exactly 1 where ``alpha = 0``; no gradient
    flows to ``alpha``.

    ``X / (X + Y)`` of two Gamma(alpha, 1) draws, from their logarithms; see ``log_gamma_draws``.

    Args:
        alpha: Float64, >= 0, of any shape.
        stream: Keys of the draws, int64; broadcasts with ``alpha``.

    Returns:
        Shares in [0, 1], of the joint shape and the dtype of ``alpha``.
    """
    drawn: Tensor = _beta(alpha.detach(), stream)
    return drawn


def log_gamma_draws(shape: Tensor, stream: Tensor) -> Tensor:
    """Return the logarithms of Gamma(shape, 1) draws, elementwise, without a branch or a loop on
    values.

    Marsaglia & Tsang (2000), A simple method for generating gamma variables, for ``shape + 1``,
    from a fixed number of proposals of which the first accepted counts; then
    ``G(a) = G(a + 1) * U^(1/a)``, in logarithms since for small ``a`` the draw itself underflows.

    Args:
        shape: Positive, floating point.
        stream: Keys, int64, of the same shape.
    """
    keys = _keys(stream, 3)
    proposal = torch.arange(PROPOSALS, device=stream.device)
    # One hash of all that is drawn: two uniform numbers for each normal one, one for each test, and
    # the last.
    which = torch.cat(
        [proposal.new_full((2 * PROPOSALS,), 0), proposal.new_full((PROPOSALS,), 1), proposal.new_full((1,), 2)]
    )
    counter = torch.cat([proposal << 1, (proposal << 1) | 1, proposal, proposal[:1]])
    uniform = counter_rng.uniform(keys[..., which], counter)
    first, second = uniform[..., :PROPOSALS], uniform[..., PROPOSALS : 2 * PROPOSALS]
    test, last = uniform[..., 2 * PROPOSALS : -1], uniform[..., -1:]
    normal = counter_rng.box_muller(first, second).to(shape.dtype)
    d = (shape + 2.0 / 3.0).unsqueeze(-1)
    root = 1 + normal / (9 * d).sqrt()
    cube = root.clamp(min=1e-6) ** 3
    bound = 0.5 * normal.square() + d * (1 - cube + cube.log())
    accepted = (root > 0) & ((1 - test.to(shape.dtype)).log() < bound)
    chosen = accepted.to(torch.uint8).argmax(-1, keepdim=True)  # the first of equal maxima
    drawn: Tensor = (d * cube.gather(-1, chosen)).log() + (1 - last.to(shape.dtype)).log() / shape.unsqueeze(-1)
    return drawn.squeeze(-1)


def _keys(stream: Tensor, count: int) -> Tensor:
    """Return ``counter_rng.key(stream, i)`` for i below ``count``, on a new last axis."""
    return counter_rng.key(stream.unsqueeze(-1), torch.arange(count, device=stream.device))


def _draw(alpha: Tensor, stream: Tensor) -> Tensor:
    joint = _joint(alpha, stream)
    alpha, stream = alpha.expand(joint), stream.expand(joint)
    safe = torch.where(alpha > 0, alpha, torch.ones_like(alpha))
    both = log_gamma_draws(safe.unsqueeze(-1).expand(*safe.shape, 2), _keys(stream, 2))
    # Of every second number: side by side, a CPU takes eight at a time, whose last bits differ from
    # those of one alone.
    share = (both - both.flip(-1))[..., 0].sigmoid()
    return torch.where(alpha > 0, share, torch.ones_like(alpha))


def _joint(alpha: Tensor, stream: Tensor) -> torch.Size:
    joint: torch.Size = torch.broadcast_shapes(alpha.shape, stream.shape)  # type: ignore[no-untyped-call]
    return joint


def _shape(alpha: Tensor, stream: Tensor) -> Tensor:
    return alpha.new_empty(_joint(alpha, stream))


def _batched(_: Any, axes: tuple[int | None, ...], alpha: Tensor, stream: Tensor) -> tuple[Tensor, int]:
    rank = max(value.dim() - (axis is not None) for value, axis in zip((alpha, stream), axes, strict=True))
    alpha, stream = (
        value if axis is None else _leading(value, axis, rank)
        for value, axis in zip((alpha, stream), axes, strict=True)
    )
    return _beta(alpha, stream), 0


def _leading(value: Tensor, axis: int, rank: int) -> Tensor:
    """Return ``value`` with its mapped ``axis`` first, before ``rank`` others, so that it
    broadcasts.
    """
    value = value.movedim(axis, 0)
    return value.reshape(value.shape[0], *[1] * (rank - value.dim() + 1), *value.shape[1:])


_beta = torch.library.custom_op(
    "reglab::symmetric_beta", _draw, mutates_args=(), schema="(Tensor alpha, Tensor stream) -> Tensor"
)
_beta.register_fake(_shape)
_beta.register_vmap(_batched)
