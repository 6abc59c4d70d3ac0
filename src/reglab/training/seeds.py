"""Seed every global random generator while a function of the user's trains."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_GLOBAL_SEED = "PL_GLOBAL_SEED"  # by which Lightning's workers and loggers know a program's seed


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context in which torch, numpy and Python draw from ``seed``, and Lightning knows it.

    Args:
        seed: >= 0.
    """
    before = os.environ.get(_GLOBAL_SEED)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    os.environ[_GLOBAL_SEED] = str(seed)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_GLOBAL_SEED, None)
        else:
            os.environ[_GLOBAL_SEED] = before
