"""Inputs of new rows, made as those of training were; what is unknown about them is counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reglab.core.errors import UserError, nearest
from reglab.data.new_columns import dates_of, labels_of, numbers_of, same_label
from reglab.data.preprocessing import Preprocessing, RawColumn
from reglab.data.reader import Array
from reglab.data.source import Floats
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable

_SHOWN = 5


@dataclass
class Remarks:
    """What is to be told of new rows.

    Args:
        rows: How many were read.
        unseen: By column, how often each value came that no training row had; None: a missing one.
        filled: By input, how many missing numbers became the median of training.
        extra: Columns that were not used.
        noise: How many noise inputs are 0.
    """

    rows: int = 0
    unseen: dict[str, Counter[str | None]] = field(default_factory=dict)
    filled: Counter[str] = field(default_factory=Counter)
    extra: dict[str, None] = field(default_factory=dict)
    noise: int = 0

    def lines(self) -> list[str]:
        """Return a sentence for each."""
        lines = [_unseen(name, counts, self.rows) for name, counts in self.unseen.items()]
        if self.filled:
            each = ", ".join(f"{name} ({count})" for name, count in self.filled.most_common(_SHOWN))
            more = f" and {len(self.filled) - _SHOWN} more" if len(self.filled) > _SHOWN else ""
            lines.append(f"missing numbers became the median of the training rows: {each}{more}")
        if self.extra:
            names = list(self.extra)
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"columns that training did not use were ignored: {', '.join(names[:_SHOWN])}{more}")
        if self.noise:
            lines.append(f"the {self.noise} inputs of data.noise_columns are 0, their mean")
        return lines


def _unseen(name: str, counts: Counter[str | None], rows: int) -> str:
    values = ["a missing value" if value is None else repr(value) for value, _ in counts.most_common(_SHOWN)]
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return (
        f"the column {name!r} holds values that no training row has, in {counts.total()} of {rows} rows "
        f"({', '.join(values)}{more}): they count as none of the known ones"
    )


def table_inputs(
    preprocessing: Preprocessing, table: RawTable, reading: Reading, remarks: Remarks
) -> NDArray[np.float32]:
    """Return the inputs ``[rows, features]`` of new rows of a table.

    Args:
        preprocessing: Of training.
        table: The new rows, raw.
        reading: Options by which its texts are read.
        remarks: Are added to.

    Raises:
        UserError: For a column that is missing, naming all of them, and a value that cannot be read.
    """
    _check_columns(preprocessing, table)
    numbers: dict[str, Floats] = {}
    labels: dict[str, list[str | None]] = {}
    for column in preprocessing.columns:
        if column.type == "category":
            labels[column.name] = labels_of(column, table, reading)
        elif column.type == "date":
            numbers |= dates_of(column, table, reading)
        else:
            numbers[column.name] = numbers_of(column, table, reading)
    by_name = {column.name: column for column in preprocessing.columns}
    blocks = [_scaled(preprocessing, numbers, table.rows, remarks)]
    blocks += [_one_hot(labels[name], by_name[name], levels, remarks) for name, levels in preprocessing.levels.items()]
    used = {*by_name, *(column.name for column in preprocessing.targets), preprocessing.query}
    remarks.extra |= dict.fromkeys(name for name in table.columns if name not in used)
    remarks.rows, remarks.noise = remarks.rows + table.rows, preprocessing.noise
    blocks.append(np.zeros((table.rows, preprocessing.noise)))
    return np.concatenate(blocks, axis=1).astype(np.float32)


def _check_columns(preprocessing: Preprocessing, table: RawTable) -> None:
    missing = [column.name for column in preprocessing.columns if column.name not in table.columns]
    if not missing:
        return
    hints = [nearest(name, table.columns) for name in missing[:1]] if len(missing) == 1 else []
    raise UserError(
        f"the new rows lack {'the column' if len(missing) == 1 else f'{len(missing)} columns'} that the model was "
        f"trained on: {', '.join(missing)}. {' '.join([*hints, 'Add it' if len(missing) == 1 else 'Add them'])}, empty "
        "where nothing is known"
    )


def _scaled(preprocessing: Preprocessing, numbers: Mapping[str, Floats], rows: int, remarks: Remarks) -> Floats:
    names = preprocessing.numbers
    values = np.stack([numbers[name] for name in names], axis=1) if names else np.empty((rows, 0))
    missing = np.isnan(values)
    if missing.any():
        counts = zip(names, missing.sum(axis=0).tolist(), strict=True)
        gone = {name: count for name, count in counts if count}
        if not preprocessing.fill:
            raise UserError(
                f"the new rows have no value in {', '.join(gone)}, and training had one in every row: fill them in"
            )
        remarks.filled.update(gone)
        values = np.where(missing, np.array(preprocessing.fill), values)
    scaled: Floats = (values - np.array(preprocessing.center)) / np.array(preprocessing.scale)
    return scaled


def _one_hot(labels: list[str | None], column: RawColumn, levels: tuple[str | None, ...], remarks: Remarks) -> Floats:
    codes = np.array(codes_of(labels, levels, column), dtype=np.int64)
    if (codes < 0).any():
        new = Counter(label for label, code in zip(labels, codes, strict=True) if code < 0)
        remarks.unseen.setdefault(column.name, Counter()).update(new)
    one_hot: Floats = (codes[:, None] == np.arange(len(levels))).astype(np.float64)
    return one_hot


def codes_of(labels: Sequence[str | None], levels: Sequence[str | None], column: RawColumn) -> list[int]:
    """Return the number of each label among ``levels``, -1 where it is none of them.

    Args:
        labels: Of the rows.
        levels: Of training.
        column: As it was in training.
    """
    exact = {level: number for number, level in enumerate(levels)}
    alike = {same_label(level, column): number for level, number in exact.items() if level is not None}
    found = {label: exact.get(label, -1) for label in set(labels)}
    found |= {
        label: alike.get(same_label(label, column), -1)
        for label, number in found.items()
        if number < 0 and label is not None
    }
    return [found[label] for label in labels]


def array_inputs(preprocessing: Preprocessing, values: Array, remarks: Remarks) -> Array:
    """Return the inputs ``[rows, *shape]`` of new rows of an array: float32, or int64 tokens.

    Args:
        preprocessing: Of training.
        values: ``[rows, *shape]``, or flat, raw.
        remarks: Are added to.

    Raises:
        UserError: For another shape, values that are no finite numbers or token ids, and where training
            had a table with categories.
    """
    if preprocessing.levels:
        raise UserError(
            f"the model takes columns of a table, categories among them ({', '.join(preprocessing.levels)}): give a "
            "table with the columns of training, not an array"
        )
    shape, width = preprocessing.row_shape, int(np.prod(preprocessing.row_shape, dtype=np.int64))
    made = width - preprocessing.noise
    shapes = [(made,)] if preprocessing.noise else [shape, (made,)]
    if values.shape[1:] not in shapes or values.dtype.kind not in "fiub":
        raise UserError(
            f"the new rows are {values.dtype} of the shape {list(values.shape)}, and the model takes numbers "
            f"[rows, {', '.join(map(str, (made,) if preprocessing.noise else shape))}]"
        )
    remarks.rows, remarks.noise = remarks.rows + len(values), preprocessing.noise
    flat = values.reshape(len(values), made)
    if preprocessing.tokens:
        if not (np.isfinite(flat).all() and (flat == np.floor(flat)).all() and (flat >= 0).all()):
            raise UserError("the new rows are token ids: whole numbers from 0")
        return np.asarray(flat.astype(np.int64)).reshape(-1, *shape)
    numbers = flat.astype(np.float64)
    fill = np.array(preprocessing.fill)
    missing = np.isnan(numbers)
    if fill.size and missing.any():
        counts = enumerate(missing.sum(axis=0).tolist())
        remarks.filled.update({f"x{number}": count for number, count in counts if count})
        numbers = np.where(missing, fill, numbers)
    scaled = (numbers - np.array(preprocessing.center)) / np.array(preprocessing.scale)
    scaled[numbers == preprocessing.pad] = preprocessing.pad
    if not np.isfinite(scaled).all():
        raise UserError(
            "the new rows hold values that are missing or infinite, which training had none of: correct them"
        )
    blank = np.zeros((len(scaled), preprocessing.noise))
    return np.asarray(np.concatenate([scaled, blank], axis=1).astype(np.float32)).reshape(-1, *shape)
