"""Counter-based random numbers: the same bits solo, vmapped, compiled, resumed and on every rank.

A draw is a pure function of a key and a counter, so no generator state has to be saved, split or sent. The hash is
SplitMix64 (Steele, Lea & Flood 2014, Fast splittable pseudorandom number generators), whose output function over a
Weyl sequence passes BigCrush; a key moves the start of the sequence.
"""

import zlib

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer: odd, so the sequence has period 2^64
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(bits: Tensor, by: int) -> Tensor:
    """Logical right shift: PyTorch's shift of a signed integer drags the sign along."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def hash64(bits: Tensor) -> Tensor:
    """Return SplitMix64's output function of int64 ``bits``, elementwise: a bijection of the 64-bit integers."""
    bits = (bits ^ _shift(bits, 30)) * _MIX1
    bits = (bits ^ _shift(bits, 27)) * _MIX2
    return bits ^ _shift(bits, 31)


def name_number(name: str) -> int:
    """Return a stable number for a method's or site's name (Python's own hash differs between processes)."""
    return zlib.crc32(name.encode())


def key(*parts: Tensor | int) -> Tensor:
    """Return the int64 key of ``(seed, step, method, site, ...)``; every part may be a 0-dim tensor or an integer."""
    mixed = torch.zeros((), dtype=torch.int64)
    for part in parts:
        if isinstance(part, Tensor):
            mixed = mixed.to(part.device)
        mixed = hash64(mixed * _MIX2 + part + _GOLDEN)
    return mixed


def bits(stream: Tensor, counter: Tensor) -> Tensor:
    """Return 64 random bits (int64) for each counter; ``stream`` is a key and broadcasts to ``counter``."""
    return hash64(stream + (counter + 1) * _GOLDEN)


def uniform(stream: Tensor, counter: Tensor) -> Tensor:
    """Return float32 numbers in [0, 1), multiples of 2^-24, one for each counter. Exactly 0 can occur, 1 cannot."""
    return ((bits(stream, counter) >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def normal(stream: Tensor, counter: Tensor) -> Tensor:
    """Return standard normal float32 numbers, one for each counter (Box & Muller 1958)."""
    first = 1.0 - uniform(stream, 2 * counter)  # in (0, 1]: its logarithm is finite
    second = uniform(stream, 2 * counter + 1)
    return (-2.0 * first.log()).sqrt() * (2.0 * torch.pi * second).cos()


def permutation(stream: Tensor, rows: int) -> Tensor:
    """Return a random order of ``rows`` rows, int64 [rows], on the key's device."""
    return bits(stream, torch.arange(rows, device=stream.device)).argsort(stable=True)
