"""``RawTable``: the columns of a file as they stand there, before anything is made of them."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reglab.core.errors import UserError


@dataclass(frozen=True)
class RawTable:
    """The columns of a file.

    Args:
        columns: By name: texts (a ``pyarrow.ChunkedArray`` of strings, empty where the file has
            nothing), or typed values (a ``pandas.Series``) from a Parquet file.
        rows: Number of rows.
        place: Where a row stands, such as ``line 7`` of a text file; rows are counted from 0.
        notes: What was left out or decided in reading, one sentence each.
        separator: Between the fields of a text file.
        unusable: What stands in columns of which no input can be made, by name.
    """

    columns: Mapping[str, Any]
    rows: int
    place: Callable[[int], str]
    notes: tuple[str, ...] = ()
    separator: str = ""
    unusable: Mapping[str, str] = field(default_factory=dict)


def check_names(path: object, names: list[str]) -> None:
    """Check that no two columns have one name.

    Raises:
        UserError: Naming the columns.
    """
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        where = " and ".join(str(index + 1) for index, other in enumerate(names) if other == name)
        raise UserError(
            f"data.path={path}: {times} columns are called {name!r} (columns {where}), and one would be read for the "
            "other: give each its own name in the first line, or delete one"
        )


def composed(path: str, table: RawTable) -> RawTable:
    """Return the table with each text in Unicode's composed form (NFC).

    ``é`` is one character or two, by the system that wrote it, and means the same.

    Args:
        path: Of the file, for messages.
        table: As it was read.

    Raises:
        UserError: If two columns have one name then.
    """
    names = [_composed(name) for name in table.columns]
    check_names(path, names)
    columns = dict(zip(names, map(_composed_column, table.columns.values()), strict=True))
    return replace(table, columns=columns)


def _composed_column(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not hasattr(column, "chunks"):
        return column.map(_composed) if column.dtype.kind == "O" else column
    if pc.all(pc.string_is_ascii(column)).as_py():
        return column
    encoded = column.combine_chunks().dictionary_encode()
    # pc.utf8_normalize(..., "NFC") takes characters apart and leaves them so (pyarrow 25).
    texts = pa.array([_composed(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([texts.take(encoded.indices)])


def _composed(value: Any) -> Any:
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def without_row_numbers(table: RawTable) -> RawTable:
    """Drop a nameless first column of row numbers, and nameless columns without any value.

    pandas writes row numbers; in a sorted file they give the target away.
    """
    columns, notes = dict(table.columns), list(table.notes)
    first = next(iter(columns))
    if first.startswith("Unnamed: 0") and _counts_rows(columns[first]):
        del columns[first]
        notes.append("the nameless first column holds row numbers: left out")
    for name in [name for name in columns if name.startswith("Unnamed: ") and _is_empty(columns[name])]:
        del columns[name]
        notes.append(f"column {name.removeprefix('Unnamed: ')} (from 0) has no name and no value: left out")
    return replace(table, columns=columns, notes=tuple(notes))


def _counts_rows(column: Any) -> bool:
    values = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    return [str(value) for value in values] == [str(row) for row in range(len(values))]


def _is_empty(column: Any) -> bool:
    if not hasattr(column, "to_pylist"):
        return bool(column.isna().all())
    return list(column.unique().to_pylist()) == [""]
