"""Random streams of the data: one for each purpose, so that no option disturbs another's draws."""

import numpy as np
import torch
from torch import Tensor

from reglab.data.source import Floats, Integers
from reglab.rng import counter_rng


def stream(seed: int, *purpose: str | int) -> Tensor:
    """Return the key of ``seed`` and ``purpose``.

    Equal arguments give equal draws, whatever was drawn before.
    """
    numbers = (part if isinstance(part, int) else counter_rng.name_number(part) for part in purpose)
    return counter_rng.key(seed, counter_rng.name_number("data"), *numbers)


def uniform(key: Tensor, *shape: int) -> Floats:
    """Return numbers in [0, 1), float64 of ``shape``."""
    return counter_rng.uniform(key, torch.arange(int(np.prod(shape)))).double().reshape(shape).numpy()


def normal(key: Tensor, *shape: int) -> Floats:
    """Return standard normal numbers, float64 of ``shape``."""
    return counter_rng.normal(key, torch.arange(int(np.prod(shape)))).double().reshape(shape).numpy()


def permutation(key: Tensor, rows: int) -> Integers:
    """Return a random order of ``rows`` rows."""
    return counter_rng.permutation(key, rows).numpy()
