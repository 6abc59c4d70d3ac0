"""Read a Parquet file, whose columns come with their types."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglab.data.table_memory import read_columns
from reglab.data.table_raw import RawTable, check_names

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def read_parquet(path: str, file: Path) -> RawTable:
    """Return the columns, among them an index that has a name.

    Decimals, durations and times of day (in seconds) are numbers. Columns of lists, structures or
    bytes are there, but of no use.

    Args:
        path: Of the file, for messages.
        file: The file.

    Raises:
        UserError: For two columns of one name, and for more than fits into the memory.
    """
    import pandas as pd
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        check_names(path, list(opened.schema_arrow.names))
        table = read_columns(path, opened)
    columns, notes, unusable = frame_columns(table)
    for index in (table.schema.pandas_metadata or {}).get("index_columns", []):
        if isinstance(index, dict) and index.get("name"):  # a range, which pandas keeps as its ends
            ends = range(int(index["start"]), int(index["stop"]), int(index["step"]))
            columns[str(index["name"])] = pd.Series(ends[: table.num_rows])
    return RawTable(columns, table.num_rows, lambda row: f"row {row + 1}", tuple(notes), unusable=unusable)


def frame_columns(table: "pa.Table") -> tuple[dict[str, Any], tuple[str, ...], dict[str, str]]:
    """Return the columns of a table as series, notes about them, and what is of no use in some.

    Args:
        table: As it was read.
    """
    frame = table.to_pandas(ignore_metadata=True)  # an index stands among the columns
    columns, notes, unusable = dict[str, Any](), list[str](), dict[str, str]()
    for name, kind in ((field.name, field.type) for field in table.schema):
        if name.startswith("__index_level_") and name.endswith("__"):  # an index without a name
            continue
        columns[name], note = _numbers(name, frame[name], kind)
        notes += [note] if note else []
        if what := _unusable(kind):
            columns[name], unusable[name] = frame[name].astype(str), what
    return columns, tuple(notes), unusable


def _unusable(kind: "pa.DataType") -> str:
    """Return what a column holds of which no input can be made; empty for any other."""
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_nested(value):
        return f"several values in each row ({value})"
    binary = types.is_binary(value) or types.is_large_binary(value) or types.is_fixed_size_binary(value)
    return "bytes" if binary else ""


def _numbers(name: str, values: "pd.Series", kind: "pa.DataType") -> tuple["pd.Series", str]:
    """Return a column as numbers where it can be, and a note about that."""
    from pyarrow import types

    if types.is_decimal(kind):
        return values.map(float, na_action="ignore").astype("float64"), ""
    if types.is_duration(kind):
        return values.dt.total_seconds(), f"the column {name!r} holds durations: read as seconds"
    if types.is_time(kind):
        seconds = values.map(_seconds, na_action="ignore").astype("float64")
        return seconds, f"the column {name!r} holds times of day: read as seconds since midnight"
    return values, ""


def _seconds(moment: datetime.time) -> float:
    return moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
