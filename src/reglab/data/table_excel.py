"""Read an Excel workbook (.xlsx) as texts, whose columns get their types as those of a CSV."""

import datetime
import math
import zipfile
from pathlib import Path
from typing import Any

from reglab.core.errors import UserError
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable, check_names


def read_excel(path: str, file: Path, reading: Reading) -> RawTable:
    """Return the first sheet that holds anything.

    Numbers, truth values and dates become the texts that a CSV would hold; a cell with a formula
    counts by the value that was last computed.

    Args:
        path: Of the file, for messages.
        file: The file.
        reading: Options.

    Raises:
        UserError: If the library is missing, and for a file that is no workbook or holds no rows.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(
            f"data.path={path} is an Excel file, and openpyxl, which reads it, is not installed: "
            "pip install 'reglab[excel]', or save the sheet as CSV"
        ) from error
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise UserError(f"data.path={path} cannot be read ({error}). Is it a whole .xlsx file?") from error
    try:
        sheets = {sheet.title: _rows(sheet) for sheet in book.worksheets}
    finally:
        book.close()
    filled = {title: rows for title, rows in sheets.items() if rows}
    if not filled:
        raise UserError(f"data.path={path} has no rows: give a workbook with a header line and data below it")
    title, rows = next(iter(filled.items()))
    others = ", ".join(repr(other) for other in filled if other != title)
    notes = (f"the sheet {title!r} is read, not {others}",) if others else ()
    return _table(path, rows, notes, reading)


def _rows(sheet: Any) -> list[tuple[int, list[str]]]:
    """Return the rows of a sheet that hold anything, with their numbers."""
    rows = ((number, [_text(cell) for cell in row]) for number, row in enumerate(sheet.iter_rows(values_only=True), 1))
    return [(number, row) for number, row in rows if any(row)]


def _text(value: object) -> str:
    """Return a cell as a CSV would hold it."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(sep=" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _table(path: str, rows: list[tuple[int, list[str]]], notes: tuple[str, ...], reading: Reading) -> RawTable:
    import pyarrow as pa

    width = max(max((i + 1 for i, text in enumerate(row) if text), default=0) for _, row in rows)
    cells = [(row + [""] * width)[:width] for _, row in rows]
    numbers = [number for number, _ in rows]
    header = list(map(str, range(width))) if reading.header is False else cells.pop(0)
    if reading.header is not False:
        numbers = numbers[1:]
    names = [name or f"Unnamed: {index}" for index, name in enumerate(header)]
    check_names(path, names)
    columns = {name: pa.chunked_array([[row[i] for row in cells]], pa.string()) for i, name in enumerate(names)}
    return RawTable(columns, len(cells), lambda row: f"row {numbers[row]}", notes)
