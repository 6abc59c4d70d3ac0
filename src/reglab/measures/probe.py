"""The probe: the fixed subset of training rows that the training side of a gap is measured on."""

import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.rng import counter_rng

_LEAST = 1000  # rows: fewer would make the training side the noisier one of the gap where validation parts are small


def probe_size(train_rows: int, val_rows: int, wanted: int | None = None) -> int:
    """Return how many training rows to measure: ``wanted``, or as many as validation rows but at
    least 1000.

    Never more than there are, so that a sweep over training sizes needs no second setting.

    Args:
        train_rows: Number of training rows.
        val_rows: Number of validation rows.
        wanted: Rows asked for; None for the default.

    Raises:
        UserError: If ``wanted`` is below 2.

    Example:
        >>> probe_size(60_000, 5_000)
        5000
        >>> probe_size(1_000, 100, wanted=250)
        250
    """
    if wanted is not None and wanted < 2:
        raise UserError(f"measure.probe_rows={wanted} must be null or at least 2")
    return min(train_rows, max(val_rows, _LEAST) if wanted is None else wanted)


def probe_rows(rows: int, wanted: int, seed: int) -> Tensor:
    """Return ``wanted`` of the numbers 0..rows-1, drawn without replacement, sorted, int64; all if
    wanted >= rows.

    A pure function of its arguments, and nested: a smaller probe is a part of every larger one of
    the same seed.

    Args:
        rows: Number of training rows.
        wanted: Rows of the probe.
        seed: Of the draw.

    Returns:
        int64 ``[min(rows, wanted)]``, sorted.
    """
    if wanted >= rows:
        return torch.arange(rows)
    order = counter_rng.permutation(counter_rng.key(seed, counter_rng.name_number("probe")), rows)
    return order[:wanted].sort().values
