"""Groups, times and weights of rows that are given as arrays rather than as columns of a table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from reglab.core.errors import UserError
from reglab.data.reader import Array
from reglab.data.source import Floats, Integers


class Steering(NamedTuple):
    """The fields of ``Source`` of the same names."""

    group: Integers | None
    time: Integers | None
    sample_weight: Floats | None


def steered(values: Mapping[str, Any], rows: int) -> Steering:
    """Return what steers the split and the weights.

    Args:
        values: ``[rows]`` each, by option: some of ``group``, ``time`` and ``sample_weight``.
        rows: How many there must be.

    Raises:
        UserError: For values that cannot be used, naming the option.
    """
    given = dict(values)
    return Steering(
        _numbered(given["group"], rows, "group") if "group" in given else None,
        _numbered(given["time"], rows, "time") if "time" in given else None,
        _weights(given["sample_weight"], rows) if "sample_weight" in given else None,
    )


def _numbered(values: Any, rows: int, key: str) -> Integers:
    """Return the number of each row's value among the sorted ones, from 0: of a group, or a time."""
    array = _one_a_row(values, rows, key)
    if (array != array).any():  # NaN and NaT
        row = int(np.flatnonzero(array != array)[0])
        raise UserError(f"data.{key} has no value in row {row}, counted from 0: fill it in, or leave the row out")
    try:
        numbers = np.unique(array, return_inverse=True)[1]
    except TypeError as error:
        raise UserError(
            f"data.{key} holds values that have no order ({error}): give numbers, texts or times"
        ) from error
    return np.asarray(numbers, dtype=np.int64).reshape(-1)


def _weights(values: Any, rows: int) -> Floats:
    array = _one_a_row(values, rows, "sample_weight")
    if array.dtype.kind not in "fiub" or not (np.isfinite(array) & (array >= 0)).all():
        raise UserError("data.sample_weight must hold finite numbers >= 0, one for each row: correct them")
    return array.astype(np.float64)


def _one_a_row(values: Any, rows: int, key: str) -> Array:
    array = np.asarray(values)
    if array.shape != (rows,):
        raise UserError(f"data.{key} holds {list(array.shape)}: it must be [{rows}], a value for each row")
    return array
