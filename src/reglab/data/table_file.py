"""Read a table from CSV or Parquet."""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from reglab.core.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

TEXT, PARQUET = (".csv", ".tsv", ".txt"), (".parquet", ".pq")
SEPARATORS = (",", ";", "\t", "|")


def read_table(path: str | None) -> "pd.DataFrame":
    """Return the table in a CSV (comma, semicolon, tab or bar) or Parquet file.

    Raises:
        UserError: If no path is given, the file is missing, empty or unreadable, or of another
            kind.
    """
    import pandas as pd

    if path is None:
        raise UserError("data.path is not set: give your file, as in data=table data.path=FILE.csv data.target=COLUMN")
    file = Path(str(path)).expanduser()
    _check_file(file)
    try:
        frame = pd.read_csv(file, sep=_separator(file)) if file.suffix.lower() in TEXT else pd.read_parquet(file)
    except (ValueError, OSError) as error:  # parser, encoding and Arrow errors are ValueErrors
        raise UserError(
            f"data.path={path} cannot be read: {str(error).strip()}. Is it a whole {file.suffix} file (text in UTF-8)?"
        ) from error
    frame.columns = [str(name) for name in frame.columns]
    if frame.empty:
        raise UserError(f"data.path={path} has no rows: give a file with a header line and data below it")
    return _without_row_numbers(frame).reset_index(drop=True)


def check_columns(frame: "pd.DataFrame", key: str, names: Iterable[object]) -> list[str]:
    """Return ``names``, which must be columns; the option ``key`` gave them.

    Raises:
        UserError: Naming the nearest.
    """
    chosen = [str(name) for name in names]
    for name in chosen:
        if name not in frame.columns:
            raise UserError(f"data.{key}={name} is not a column: {nearest(name, frame.columns)} {list_columns(frame)}")
    return chosen


def list_columns(frame: "pd.DataFrame", most: int = 30) -> str:
    """Return the sentence that lists the columns."""
    rest = f", and {len(frame.columns) - most} more" if len(frame.columns) > most else ""
    return f"The file has the columns {', '.join(frame.columns[:most])}{rest}"


def _check_file(file: Path) -> None:
    if not file.parent.is_dir():
        raise UserError(f"data.path={file}: there is no folder {file.parent.resolve()}")
    if not file.is_file():
        beside = [other.name for other in file.parent.iterdir() if other.suffix.lower() in TEXT + PARQUET]
        raise UserError(f"data.path={file}: no such file in {file.parent.resolve()}; {nearest(file.name, beside)}")
    if file.suffix.lower() not in TEXT + PARQUET:
        raise UserError(
            f"data.path={file} ends in {file.suffix or 'nothing'}: reglab reads {', '.join(TEXT + PARQUET)}. "
            "Convert the file to one of these"
        )


def _separator(file: Path, most: int = 20) -> str:
    """Return the separator that occurs most often in each of the first lines (unquoted)."""
    with file.open(encoding="utf-8") as lines:
        bare = [re.sub(r'"[^"]*"', "", line) for line in itertools.islice(lines, most)]
    return max(SEPARATORS, key=lambda separator: min((line.count(separator) for line in bare), default=0))


def _without_row_numbers(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Drop the nameless column of row numbers that pandas writes.

    In a sorted file it gives the target away.
    """
    first = frame.columns[0]
    if first.startswith("Unnamed: 0") and list(frame[first]) == list(range(len(frame))):
        return frame.drop(columns=first)
    return frame
