"""``Preprocessing``: how raw rows became inputs in training, as plain data, for rows to come."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from reglab.core.errors import UserError
from reglab.data.encode import Fitted
from reglab.data.options import Options
from reglab.data.source import Floats, Source
from reglab.data.table_column import Column
from reglab.data.table_options import Reading
from reglab.data.table_roles import TypedTable
from reglab.data.targets import Targets
from reglab.tasks import task_named

FILE = "preprocessing.json"
Reads = Literal["table", "array", "images"]
Kind = Literal["number", "truth", "category", "date"]
_VERSION = 1


@dataclass(frozen=True)
class RawColumn:
    """A column of a table, as it is read.

    Args:
        name: In the file.
        type: What its values are.
        form: The decimal sign of numbers, the format of dates; empty where it does not matter.
        numeric: Of a category: its values are numbers.
        text: Of a category: only the empty text is missing.
    """

    name: str
    type: Kind
    form: str = ""
    numeric: bool = False
    text: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """All that is needed to make inputs of raw rows, and predictions of a model's outputs.

    An input of a number is ``(value - center) / scale``, a missing one counting as ``fill``; then
    comes an input of 0 or 1 for each of ``levels``, column by column; then ``noise`` inputs, which
    were random in training and are 0 here, their mean.

    Args:
        reads: What rows are: those of a table, of an array, or images.
        task: Of the targets.
        columns: The raw ones of a table.
        numbers: The names of the inputs that are numbers; of a date its parts, ``sold_year``.
        fill: By number; empty where none can be missing.
        center, scale: By number, or one for all.
        levels: The values of each categorical column that have an input; None: a missing one.
        noise: How many inputs are noise.
        shape: Of the inputs of a row.
        tokens: Inputs are token ids, int64.
        reading: Options by which a file is read, as in ``Reading``.
        targets: The columns of a table that hold the target.
        target_names: Classes, labels or target columns.
        target_center, target_scale: By which targets were standardized; empty: they were not.
    """

    reads: Reads
    task: str
    columns: tuple[RawColumn, ...]
    numbers: tuple[str, ...]
    fill: tuple[float, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    levels: Mapping[str, tuple[str | None, ...]]
    noise: int
    shape: tuple[int, ...]
    tokens: bool
    reading: Mapping[str, Any]
    targets: tuple[RawColumn, ...]
    target_names: tuple[str, ...]
    target_center: tuple[float, ...]
    target_scale: tuple[float, ...]

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps({"version": _VERSION, **asdict(self)}, ensure_ascii=False) + "\n"


def preprocessing_of(source: Source, fitted: Fitted, targets: Targets, options: Options) -> Preprocessing | None:
    """Return how the rows of ``source`` became inputs; None where new rows cannot be made such inputs
    yet: windows, queries, padded and several inputs, and targets that are several tasks.

    Args:
        source: Raw rows.
        fitted: What the training rows showed.
        targets: Prepared.
        options: Options of the data.
    """
    reads = task_named(source.task).reads
    if source.pad is not None or source.several or source.query is not None or source.spans is not None:
        return None
    if reads in ("times", "queries") or source.task.startswith("multi("):
        return None
    of_table = source.shape is None and source.reader is None and not source.homogeneous and not source.tokens
    table = source.table
    center, scale = (_short(values, of_table) for values in (fitted.center, fitted.scale))
    numbers = source.numeric_names if of_table else ()
    count = len(source.numeric_names) + sum(map(len, fitted.levels)) + options.noise_columns
    return Preprocessing(
        reads="images" if source.images else "table" if of_table else "array",
        task=source.task,
        columns=_raw_columns(table) if table else tuple(RawColumn(name, "number") for name in numbers),
        numbers=numbers,
        fill=tuple(fitted.fill.tolist()),
        center=center,
        scale=scale,
        levels={column.name: levels for column, levels in zip(source.categorical, fitted.levels, strict=True)},
        noise=options.noise_columns,
        shape=source.shape or (count,),
        tokens=source.tokens,
        reading=_reading(table),
        targets=tuple(_raw(column, table) for column in table.targets) if table else (),
        target_names=source.target_names,
        target_center=_of_targets(source, targets, "target_mean"),
        target_scale=_of_targets(source, targets, "target_std"),
    )


def _short(values: Floats, of_table: bool) -> tuple[float, ...]:
    """Return values, one where all are the same and no names of columns belong to them."""
    same = not of_table and values.size and bool((values == values[0]).all())
    return (float(values[0]),) if same else tuple(values.tolist())


def _raw_columns(table: TypedTable) -> tuple[RawColumn, ...]:
    return tuple(_raw(column, table) for column in table.inputs)


def _raw(column: Column, table: TypedTable) -> RawColumn:
    number = column.kind in ("number", "truth") and column.name in table.categorical
    if number:
        return RawColumn(column.name, "category", column.form, numeric=column.kind == "number")
    kind: Kind = next(each for each in get_args(Kind) if each == column.kind)
    return RawColumn(column.name, kind, column.form, text=table.reading.kinds.get(column.name) == "text")


def _reading(table: TypedTable | None) -> dict[str, Any]:
    """Return the options of reading that decide about other files of the same kind, too."""
    reading = table.reading if table else Reading()
    kept = {field.name: getattr(reading, field.name) for field in fields(Reading)}
    missing = kept["missing"]
    several = isinstance(missing, Sequence) and not isinstance(missing, str)
    kept |= {"types": None, "decimal": None, "missing": list(map(str, missing)) if several else missing}
    return kept


def _of_targets(source: Source, targets: Targets, key: str) -> tuple[float, ...]:
    if not task_named(source.task).standardizes or f"{key}.{source.target_names[0]}" not in targets.summary:
        return ()
    return tuple(targets.summary[f"{key}.{name}"] for name in source.target_names)


def read_preprocessing(text: str, where: object) -> Preprocessing:
    """Return what ``Preprocessing.text`` wrote.

    Args:
        text: The JSON.
        where: It stands, for messages.

    Raises:
        UserError: For a text that is damaged, or of a later version.
    """
    try:
        found = json.loads(text)
        if found.pop("version") != _VERSION:
            raise UserError(f"{where} was written by another version of reglab: install that, or train again")
        found |= {key: tuple(RawColumn(**each) for each in found[key]) for key in ("columns", "targets")}
        found["levels"] = {name: tuple(levels) for name, levels in found["levels"].items()}
        found |= {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
        read = Preprocessing(**found)
        _check(read)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{where} is damaged ({error}): put it back from a copy, or train again") from error
    return read


def _check(read: Preprocessing) -> None:
    """Raise ValueError where the parts do not fit each other."""
    Reading(**read.reading)
    width = int(np.prod(read.shape, dtype=np.int64))
    ones = len(read.numbers) + sum(map(len, read.levels.values())) + read.noise
    lengths = {len(read.center), len(read.scale)}
    wanted = {len(read.numbers)} if read.reads == "table" else lengths & {1, width}
    if read.reads not in get_args(Reads) or lengths != wanted or (read.reads == "table" and ones != width):
        raise ValueError("its numbers do not fit its columns")
    if not all(isinstance(value, float | int) for value in (*read.fill, *read.center, *read.scale)):
        raise ValueError("its numbers are none")
    if not all(isinstance(name, str) for name in (*read.target_names, *read.numbers, *read.levels)):
        raise ValueError("its names are none")
