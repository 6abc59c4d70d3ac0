"""Encode columns as inputs (impute, standardize, one-hot), fitted on training rows."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reglab.core.errors import UserError
from reglab.core.override import typed
from reglab.data.moments import counts_of, moments_of, scale_of, scale_of_counts
from reglab.data.source import Bytes, Categorical, Floats, Integers, Source


@dataclass(frozen=True)
class Fitted:
    """What the training rows show, by which any row is encoded.

    Args:
        scale: What numeric columns are divided by, float64 [columns].
        center: What is subtracted before, float64 [columns].
        fill: What stands for a missing number, float64 [columns]; empty where none can be missing.
        levels: Of each categorical column, the values that have an input; None: a missing one.
    """

    scale: Floats
    center: Floats
    fill: Floats = field(default_factory=lambda: np.empty(0))
    levels: tuple[tuple[str | None, ...], ...] = ()


@dataclass(frozen=True)
class Encoded:
    """Inputs [rows, features], their names, and how they were made.

    Args:
        inputs: Int64 where they are tokens; float32 where they were bytes; else float64.
    """

    inputs: Floats | NDArray[np.float32] | Integers
    names: tuple[str, ...]
    fitted: Fitted


def encode(source: Source, train: Integers, standardize: bool) -> Encoded:
    """Impute, standardize and one-hot encode all rows by what the rows ``train`` show.

    Missing numbers become the training median; numeric columns are standardized to mean 0 and
    (population) standard deviation 1 over the training rows, a constant one is only centered. A
    category becomes a column of 0 and 1 for each value seen in training, a missing value being a
    category of its own; a value unseen in training becomes all zeros. One-hot columns are not
    scaled, tokens stay as they are.

    Args:
        source: Raw rows.
        train: int64 row numbers of the training part.
        standardize: Scale numeric columns to mean 0 and deviation 1.

    Returns:
        Inputs [rows, features] with names, and what was fitted.

    Raises:
        UserError: If a numeric column has no value in any training row.
    """
    if source.tokens:
        as_they_are = Fitted(np.ones(source.numeric.shape[1]), np.zeros(source.numeric.shape[1]))
        return Encoded(source.numeric.astype(np.int64, copy=False), source.numeric_names, as_they_are)
    if source.numeric.dtype == np.uint8:
        return _encode_bytes(source.numeric.view(np.uint8), source.numeric_names, train, standardize)
    numeric, fill = _impute(source, train)
    center, scale = np.zeros(numeric.shape[1]), np.ones(numeric.shape[1])
    _check_float32(numeric, source)  # before: a huge deviation would make a column of zeros
    if standardize:
        center, scale = _moments(numeric[train], source.homogeneous, source.pad)
        padding = numeric == source.pad if source.pad is not None else None
        numeric = (numeric - center) / scale
        if padding is not None:
            numeric[padding] = source.pad
        _check_float32(numeric, source)  # a column may be far wider elsewhere than in the training rows
    blocks, names, levels = [numeric], list(source.numeric_names), []
    for column in source.categorical:
        block, labels = one_hot(column, train)
        blocks.append(block)
        names += [f"{column.name}={'missing' if label is None else label}" for label in labels]
        levels.append(tuple(labels))
    return Encoded(np.concatenate(blocks, axis=1), tuple(names), Fitted(scale, center, fill, tuple(levels)))


def _check_float32(prepared: Floats, source: Source) -> None:
    """Raise UserError for a column that float32 cannot hold, naming its largest value."""
    fits = np.abs(prepared) <= np.finfo(np.float32).max
    if fits.all():
        return
    column = int(np.flatnonzero(~fits.all(axis=0))[0])
    values = np.nan_to_num(np.abs(source.numeric[:, column].astype(np.float64, copy=False)), nan=-1.0, posinf=np.inf)
    row = int(values.argmax())
    raise UserError(
        f"the column {source.numeric_names[column]!r} holds {source.numeric[row, column]:g} in row {row + 1}, which is "
        "too large to train on: correct it, leave it empty (it is then filled in), or leave the column out"
    )


def _encode_bytes(pixels: Bytes, names: tuple[str, ...], train: Integers, standardize: bool) -> Encoded:
    """Encode pixels by one mean and one deviation, through a table of the 256 values.

    No copy in float64 is made.
    """
    counts = np.sum([counts_of(pixels[row]) for row in train], axis=0) if standardize else None
    table, center, scale = byte_table(counts)
    return Encoded(table[pixels], names, Fitted(np.full(pixels.shape[1], scale), np.full(pixels.shape[1], center)))


def byte_table(counts: Integers | None, pad: float | None = None) -> tuple[NDArray[np.float32], float, float]:
    """Return what each of the 256 values of a byte is as an input, float32 ``[256]``, and the center
    and the scale by which it is.

    Args:
        counts: Of each value in the training rows, int64 ``[256]``; None: not standardized.
        pad: The value of padding, which does not count and stays as it is; None: there is none.
    """
    padding = np.flatnonzero(np.arange(256) == pad)
    if counts is not None and len(padding):
        counts = np.where(np.arange(256) == pad, 0, counts)
        if not counts.any():
            raise UserError(f"data.pad={pad:g} is the value of all training inputs: nothing else is there")
    center, scale = (0.0, 1.0) if counts is None else map(float, scale_of_counts(counts))
    table = ((np.arange(256.0) - center) / scale).astype(np.float32)
    table[padding] = padding
    return table, center, scale


def _impute(source: Source, train: Integers) -> tuple[Floats, Floats]:
    """Return the numbers without a missing one, and the median of each column of a table."""
    numeric = source.numeric.astype(np.float64, copy=False)
    missing = np.isnan(numeric)
    if not missing.any():
        each = range(numeric.shape[1] if source.shape is None else 0)
        return numeric, np.array([np.median(numeric[train, column]) for column in each])
    empty = np.flatnonzero(missing[train].all(axis=0))
    if empty.size:
        names = [source.numeric_names[column] for column in empty]
        raise UserError(
            f"no training row has a value in: {', '.join(names)}. Leave them out: {typed('data.drop', names)}"
        )
    fill = np.nanmedian(numeric[train], axis=0)
    return np.where(missing, fill, numeric), fill


def _moments(values: Floats, homogeneous: bool, pad: float | None) -> tuple[Floats, Floats]:
    if pad is not None:
        found = scale_of([moments_of(values, by_column=not homogeneous, pad=pad)])
        center, scale = (np.broadcast_to(each, values.shape[1]) for each in found)
        return center, scale
    axis = None if homogeneous else 0
    # Rounding gives a constant column a deviation of about 1e-17, and dividing by it would make it
    # huge.
    constant = values.min(axis=axis) == values.max(axis=axis)
    center, scale = values.mean(axis=axis), np.where(constant, 1.0, values.std(axis=axis))
    columns = values.shape[1]
    return np.broadcast_to(center, columns), np.broadcast_to(scale, columns)


def one_hot(column: Categorical, train: Integers) -> tuple[Floats, list[str | None]]:
    """Return the 0/1 columns [rows, training values] of a categorical column, and labels, None for
    a missing value.

    Args:
        column: Codes [rows] and labels.
        train: int64 row numbers of the training part.
    """
    codes = np.unique(column.codes[train])
    labels = [None if code < 0 else column.labels[code] for code in codes]
    return (column.codes[:, None] == codes).astype(np.float64), labels
