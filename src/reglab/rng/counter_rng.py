"""Counter-based random numbers: the same bits solo, vmapped, compiled, resumed, on every rank.

A draw is a pure function of a key and a counter, so no generator state has to be saved, split or
sent. The hash is SplitMix64 (Steele, Lea & Flood 2014, Fast splittable pseudorandom number
generators), whose output function over a Weyl sequence passes BigCrush; a key moves the start of
the sequence.
"""

import functools
import zlib

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer: odd, so the sequence has period 2^64
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB
_ALL = 2**64 - 1


def hash64(bits: Tensor) -> Tensor:
    """Return SplitMix64's output function of int64 ``bits``, elementwise: a bijection of the 64-bit
    integers.
    """
    bits = _mixed(bits)
    return bits ^ ((bits >> 31) & (2**33 - 1))


def _mixed(bits: Tensor) -> Tensor:
    """Return ``hash64`` before its last step, which changes the lower 33 bits only."""
    # PyTorch's shift of a signed integer drags the sign along; the masks make it a logical one.
    bits = (bits ^ ((bits >> 30) & (2**34 - 1))) * _MIX1
    return (bits ^ ((bits >> 27) & (2**37 - 1))) * _MIX2


def _hash_integer(number: int) -> int:
    """Return ``hash64`` of a Python integer, as a signed one: what is known before a step costs no
    tensor in it.
    """
    number &= _ALL
    number = ((number ^ (number >> 30)) * (_MIX1 & _ALL)) & _ALL
    number = ((number ^ (number >> 27)) * (_MIX2 & _ALL)) & _ALL
    return _signed(number ^ (number >> 31))


def _signed(number: int) -> int:
    number &= _ALL
    return number - 2**64 if number >= 2**63 else number


def name_number(name: str) -> int:
    """Return a stable number for a method's or site's name (Python's own hash differs between
    processes).
    """
    return zlib.crc32(name.encode())


def key(*parts: Tensor | int) -> Tensor:
    """Return the int64 key of ``(method, site, seed, step, ...)``; a part may be an integer or a
    0-dim tensor.

    Integers that stand first cost next to nothing.
    """
    mixed: Tensor | int = 0
    for part in parts:
        if isinstance(part, Tensor):
            start = _signed(mixed * _MIX2 + _GOLDEN) if isinstance(mixed, int) else mixed * _MIX2 + _GOLDEN
            mixed = hash64(part + start)
        elif isinstance(mixed, int):
            mixed = _fold(mixed, int(part))
        else:
            mixed = hash64(mixed * _MIX2 + part + _GOLDEN)
    return torch.tensor(mixed) if isinstance(mixed, int) else mixed


def integer_key(*parts: int) -> int:
    """Return the key of integers as an integer: a seed for generators that are not ours."""
    return functools.reduce(_fold, parts, 0)


def _fold(mixed: int, part: int) -> int:
    return _hash_integer(mixed * _MIX2 + part + _GOLDEN)


def bits(stream: Tensor, counter: Tensor) -> Tensor:
    """Return 64 random bits (int64) for each counter; ``stream`` is a key and broadcasts to
    ``counter``.

    Args:
        stream: A key, int64.
        counter: int64, any shape.

    Returns:
        int64, in the shape of ``counter``.
    """
    return hash64(_weyl(stream, counter))


def _weyl(stream: Tensor, counter: Tensor) -> Tensor:
    return torch.add(stream + _GOLDEN, counter, alpha=_GOLDEN)


def uniform(stream: Tensor, counter: Tensor) -> Tensor:
    """Return float32 numbers in [0, 1), multiples of 2^-24, one for each counter.

    Exactly 0 can occur, 1 cannot.

    Args:
        stream: A key, int64.
        counter: int64, any shape.

    Returns:
        float32, in the shape of ``counter``.

    Example:
        >>> stream = key(0, name_number("dropout"), 7)  # seed, purpose, step
        >>> uniform(stream, torch.arange(3))
        tensor([0.2925, 0.7550, 0.5222])
        >>> uniform(stream, torch.arange(2, 3))  # any part, in any order, on any device
        tensor([0.5222])
    """
    # The upper 24 bits: the hash's last step does not reach them.
    return ((_mixed(_weyl(stream, counter)) >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def normal(stream: Tensor, counter: Tensor) -> Tensor:
    """Return standard normal float32 numbers, one for each counter (Box & Muller 1958).

    Args:
        stream: A key, int64.
        counter: int64, any shape.

    Returns:
        float32, in the shape of ``counter``.
    """
    # Shifted, not doubled: a compiler that knows the counter as an index multiplies 2 and the
    # hash's constant, and that product does not fit 64 bits.
    return box_muller(uniform(stream, counter << 1), uniform(stream, (counter << 1) | 1))


def box_muller(first: Tensor, second: Tensor) -> Tensor:
    """Return standard normal float32 numbers from two uniform ones each in [0, 1), elementwise."""
    # In double precision, then rounded: in single, a compiler's logarithm and cosine differ from
    # the library's.
    wide = torch.float32 if first.device.type == "mps" else torch.float64
    first, second = (1.0 - first).to(wide), second.to(wide)  # in (0, 1]: its logarithm is finite
    return ((-2.0 * first.log()).sqrt() * (2.0 * torch.pi * second).cos()).to(torch.float32)


def permutation(stream: Tensor, rows: int) -> Tensor:
    """Return a random order of ``rows`` rows, int64 [rows], on the key's device.

    Args:
        stream: A key, int64, 0-dim.
        rows: Number of rows.

    Returns:
        int64 ``[rows]``.

    Example:
        >>> permutation(key(0, name_number("order"), 0), 5)
        tensor([3, 1, 2, 4, 0])
    """
    return bits(stream, torch.arange(rows, device=stream.device)).argsort(stable=True)
