"""Columns of pure noise beside the real ones: a known truth for feature selection."""

import numpy as np

from reglab.data.source import Floats
from reglab.data.streams import normal, stream


def noise_columns(rows: int, columns: int, seed: int) -> Floats:
    """Return standard normal numbers, float64 [rows, columns], independent of everything.

    Each column has its own stream: more columns, or more rows, leave those that were there
    unchanged.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        seed: Seed of the split and the noise.
    """
    drawn = [normal(stream(seed, "noise_columns", column), rows) for column in range(columns)]
    return np.stack(drawn, axis=1) if drawn else np.empty((rows, 0))
