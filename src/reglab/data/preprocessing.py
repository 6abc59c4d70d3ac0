"""``Preprocessing``: how raw rows became inputs in training, as plain data, for rows to come."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from reglab.core.errors import UserError
from reglab.data.encode import Fitted
from reglab.data.options import Options
from reglab.data.several import Input
from reglab.data.source import Floats, Source
from reglab.data.table_column import Column
from reglab.data.table_options import Reading
from reglab.data.table_roles import TypedTable
from reglab.data.targets import Targets
from reglab.data.windowed import Windows
from reglab.tasks import task_named

FILE = "preprocessing.json"
Reads = Literal["table", "array", "images", "windows"]
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
        reads: What rows are: those of a table, of an array, images, or windows of series.
        task: Of the targets.
        columns: The raw ones of a table, of Parquet files with lists, or of series.
        numbers: The names of the inputs that are numbers; of a date its parts, ``sold_year``.
        fill: By number; empty where none can be missing.
        center, scale: By number, or one for all.
        levels: The values of each categorical column that have an input; None: a missing one.
        noise: How many inputs are noise.
        shape: Of the inputs of an example; where the task ranks, of the documents of a query.
        tokens: Inputs are token ids, int64.
        reading: Options by which a file is read, as in ``Reading``.
        targets: The columns of a table that hold the target.
        target_names: Classes, labels or target columns.
        target_center, target_scale: By which targets were standardized; empty: they were not.
        class_names: Of each of several targets, the names of its classes.
        pad: The value of padding among the inputs, which stays as it is; None: there is none.
        inputs: The several inputs that the values of a row are, one behind the other; empty: one.
        query: The column of a table that tells queries apart, where the task ranks.
        windows: How windows are cut out of series; None: they are not.
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
    class_names: tuple[tuple[str, ...], ...] = ()
    pad: float | None = None
    inputs: tuple[Input, ...] = ()
    query: str | None = None
    windows: Windows | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of the inputs of a row: of a document, where the task ranks."""
        return self.shape[1:] if task_named(self.task).reads == "queries" else self.shape

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps({"version": _VERSION, **asdict(self)}, ensure_ascii=False) + "\n"


def preprocessing_of(
    source: Source, shape: tuple[int, ...], fitted: Fitted, targets: Targets, options: Options
) -> Preprocessing:
    """Return how the rows of ``source`` became inputs.

    Args:
        source: Raw rows.
        shape: Of the inputs of an example.
        fitted: What the training rows showed.
        targets: Prepared.
        options: Options of the data.
    """
    table = source.table
    of_columns = source.shape is None and not source.several and not source.homogeneous and not source.tokens
    in_file = source.columns is not None and source.columns[0] == source.numeric_names  # numbers, and no lists
    of_table = of_columns and source.pad is None and (source.reader is None or in_file)
    center, scale = (_short(values, of_table) for values in (fitted.center, fitted.scale))
    numbers = source.numeric_names if of_table else ()
    columns, target_columns = _columns(source, numbers)
    return Preprocessing(
        reads="windows" if source.windowed else "images" if source.images else "table" if of_table else "array",
        task=source.task,
        columns=columns,
        numbers=numbers,
        fill=tuple(fitted.fill.tolist()),
        center=center,
        scale=scale,
        levels={column.name: levels for column, levels in zip(source.categorical, fitted.levels, strict=True)},
        noise=options.noise_columns,
        shape=shape,
        tokens=source.tokens,
        reading=_reading(table.reading if table else source.windowed.reading if source.windowed else Reading()),
        targets=target_columns,
        target_names=source.target_names,
        target_center=_of_targets(source, targets, "target_mean", 0.0),
        target_scale=_of_targets(source, targets, "target_std", 1.0),
        class_names=source.class_names,
        pad=source.pad,
        inputs=source.several,
        query=_query(source),
        windows=source.windowed.windows if source.windowed else None,
    )


def _query(source: Source) -> str | None:
    if task_named(source.task).reads != "queries":
        return None
    return source.table.steering["query"] if source.table else "query"


def _columns(source: Source, numbers: Sequence[str]) -> tuple[tuple[RawColumn, ...], tuple[RawColumn, ...]]:
    """Return the columns of the file, those of the inputs and of the targets."""
    if source.table:
        table = source.table
        return _raw_columns(table), tuple(_raw(column, table) for column in table.targets)
    if source.windowed and source.windowed.columns:
        names = {"number", "truth"}
        kinds = [
            (each.name, each.kind if each.kind in names else "category", each.form) for each in source.windowed.columns
        ]
        *inputs, target = (RawColumn(name, _kind(kind), form) for name, kind, form in kinds)
        return tuple(inputs), (target,)
    if source.windowed:
        given: tuple[Sequence[str], Sequence[str]] = (source.windowed.names, (source.windowed.target,))
    else:
        given = source.columns or (numbers, ())
    inputs_, targets = (tuple(RawColumn(name, "number") for name in names) for names in given)
    return inputs_, targets


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
    return RawColumn(column.name, _kind(column.kind), column.form, text=table.reading.kinds.get(column.name) == "text")


def _kind(kind: str) -> Kind:
    return next(each for each in get_args(Kind) if each == kind)


def _reading(reading: Reading) -> dict[str, Any]:
    """Return the options of reading that decide about other files of the same kind, too."""
    kept = {field.name: getattr(reading, field.name) for field in fields(Reading)}
    missing = kept["missing"]
    several = isinstance(missing, Sequence) and not isinstance(missing, str)
    kept |= {"types": None, "decimal": None, "missing": list(map(str, missing)) if several else missing}
    return kept


def _of_targets(source: Source, targets: Targets, key: str, without: float) -> tuple[float, ...]:
    if targets.scale is None:
        return ()
    return tuple(targets.summary.get(f"{key}.{name}", without) for name in source.target_names)


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
        found["class_names"] = tuple(map(tuple, found.get("class_names", ())))
        found["inputs"] = tuple(Input(name, tuple(shape)) for name, shape in found.get("inputs", ()))
        if found.get("windows"):
            found["windows"] = Windows(**found["windows"] | {"ahead": tuple(found["windows"]["ahead"])})
        read = Preprocessing(**found)
        _check(read)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{where} is damaged ({error}): put it back from a copy, or train again") from error
    return read


def _check(read: Preprocessing) -> None:
    """Raise ValueError where the parts do not fit each other."""
    Reading(**read.reading)
    ones = len(read.numbers) + sum(map(len, read.levels.values())) + read.noise
    lengths = {len(read.center), len(read.scale)}
    width = int(np.prod(read.row_shape, dtype=np.int64))
    wanted = {len(read.numbers)} if read.reads == "table" else lengths & {1, width}
    if read.reads not in get_args(Reads) or lengths != wanted or (read.reads == "table" and ones != width):
        raise ValueError("its numbers do not fit its columns")
    if not all(isinstance(value, float | int) for value in (*read.fill, *read.center, *read.scale)):
        raise ValueError("its numbers are none")
    classes = (name for names in read.class_names for name in names)
    if not all(isinstance(name, str) for name in (*read.target_names, *read.numbers, *read.levels, *classes)):
        raise ValueError("its names are none")
