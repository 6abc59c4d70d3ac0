"""Rows that a program gives to be predicted: frames, mappings of columns, arrays, several inputs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reglab.core.errors import UserError, nearest
from reglab.data.preprocessing import Preprocessing

if TYPE_CHECKING:
    import pandas as pd


def raw_rows(preprocessing: Preprocessing, rows: Any) -> "pd.DataFrame | NDArray[Any]":
    """Return rows as a frame of raw columns, or as an array.

    Args:
        preprocessing: Of training.
        rows: As they were given.

    Raises:
        UserError: For what is neither.
    """
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        return rows
    if preprocessing.inputs:
        return joined(preprocessing, rows)
    of_mappings = isinstance(rows, Sequence) and bool(rows) and all(isinstance(row, Mapping) for row in rows)
    if isinstance(rows, Mapping) or of_mappings:
        return _frame(rows)
    try:
        array: NDArray[Any] = np.asarray(rows)
    except (ValueError, TypeError) as error:
        raise UserError(f"the rows make no array ({error}): give rows of one length") from error
    if array.dtype.kind not in "fiub":
        raise UserError(
            f"the rows are a {type(rows).__name__}: give a frame, a mapping of columns, a list of mappings, or "
            "an array of numbers [rows, ...]"
        )
    if preprocessing.reads == "table" and array.ndim < 2:
        raise UserError(f"the rows are {list(array.shape)}: give an array [rows, columns], one row as [[...]]")
    return array


def joined(preprocessing: Preprocessing, rows: Any) -> NDArray[Any]:
    """Return several inputs as the values of a row, one behind the other, ``[rows, values]``.

    Args:
        preprocessing: Of training.
        rows: A mapping of arrays by the name of the input, a list of them in order, or one array
            with all values.

    Raises:
        UserError: For an input that is missing or of another shape.
    """
    names = [each.name for each in preprocessing.inputs]
    if isinstance(rows, Mapping):
        if wrong := [str(name) for name in rows if name not in names]:
            raise UserError(f"the model has no input {wrong[0]!r}: {nearest(wrong[0], names)}")
        if missing := [name for name in names if name not in rows]:
            raise UserError(f"the rows lack the input {missing[0]!r}: the model takes {', '.join(names)}")
        rows = [rows[name] for name in names]
    if isinstance(rows, np.ndarray | Tensor):
        whole: NDArray[Any] = np.asarray(rows)
        return whole
    arrays = [np.asarray(each) for each in rows] if isinstance(rows, Sequence) else []
    wanted = [each.shape for each in preprocessing.inputs]
    if [each.shape[1:] for each in arrays] != wanted or len({len(each) for each in arrays}) != 1:
        shapes = " and ".join(f"{each.name} [rows, {', '.join(map(str, each.shape))}]" for each in preprocessing.inputs)
        raise UserError(f"the model takes the inputs {shapes}: give {{NAME: array}}, of the same rows")
    return np.concatenate([each.reshape(len(each), -1).astype(np.float64) for each in arrays], axis=1)


def _frame(rows: Any) -> "pd.DataFrame":
    import pandas as pd

    values = rows if isinstance(rows, Sequence) else list(rows.values())
    if not any(isinstance(each, Iterable) and not isinstance(each, str) for each in values):
        raise UserError("the rows are a mapping of single values: give one row as [{COLUMN: VALUE, ...}]")
    try:
        return pd.DataFrame(rows)
    except ValueError as error:
        raise UserError(
            f"the rows make no table ({str(error).splitlines()[0]}): give a mapping of columns of one length, or a "
            "list of mappings"
        ) from error
