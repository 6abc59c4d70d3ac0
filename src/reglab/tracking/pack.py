"""Logging the metrics of many runs at once."""

import time
from collections.abc import Sequence

from reglab.tracking.journal_lines import layout
from reglab.tracking.tracker import RunTracker


def log_pack(trackers: Sequence[RunTracker], keys: Sequence[str], values: Sequence[Sequence[float]], step: int) -> None:
    """Do ``tracker.log(dict(zip(keys, row)), step)`` for each tracker and row of ``values``, several times faster.

    values: a row for each tracker with a number for each key, as ``Tensor.tolist`` gives them; NaN and infinities too.
    Shape: [members, keys]. Raises ValueError where the lengths do not fit or a key is there twice.
    """
    common = layout(tuple(keys))
    if len(values) != len(trackers) or any(len(row) != len(common.keys) for row in values):
        lengths = sorted({len(row) for row in values})
        raise ValueError(
            f"values must be {len(trackers)} rows of {len(common.keys)} numbers, got {len(values)} rows of {lengths}"
        )
    now = time.time_ns() // 1_000_000
    for tracker, row in zip(trackers, values, strict=True):
        tracker.journal.append_row(common, row, step, now)
