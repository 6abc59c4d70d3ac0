"""Read an Excel workbook (.xlsx) as texts, whose columns get their types as those of a CSV."""

import datetime
import math
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reglab.core.errors import UserError, nearest
from reglab.core.override import typed
from reglab.data.table_memory import check_archive, check_size
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable, check_names

_ROWS = 1_024  # between two looks at what they hold


def read_excel(path: str, file: Path, reading: Reading) -> RawTable:
    """Return ``data.sheet``, or the first sheet that is not hidden and holds anything.

    Numbers, truth values and dates become the texts that a CSV would hold; a cell with a formula
    counts by the value that was last computed, which the program that saved the file has stored.

    Args:
        path: Of the file, for messages.
        file: The file.
        reading: Options.

    Raises:
        UserError: If the library is missing, for a file that is no workbook or holds no rows, and
            for formulas without a stored value.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(
            f"data.path={path} is an Excel file, and openpyxl, which reads it, is not installed: "
            "pip install 'reglab[excel]', or save the sheet as CSV"
        ) from error
    try:
        check_archive(path, file)
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise UserError(f"data.path={path} cannot be read ({error}). Is it a whole .xlsx file?") from error
    try:
        sheets = {sheet.title: _rows(path, sheet) for sheet in book.worksheets}
        hidden = {sheet.title for sheet in book.worksheets if sheet.sheet_state != "visible"}
    finally:
        book.close()
    filled = {title: rows for title, rows in sheets.items() if rows}
    if not filled:
        raise UserError(f"data.path={path} has no rows: give a workbook with a header line and data below it")
    title = _chosen(path, filled, hidden, reading.sheet)
    others = [typed("data.sheet", other) for other in filled if other != title]
    notes = (f"the sheet {title!r} is read; for another: {' or '.join(others)}",) if others else ()
    if uncomputed := _uncomputed(file, title):
        raise UserError(
            f"data.path={path}: the cell {uncomputed} of the sheet {title!r} holds a formula without its value: open "
            "the file in a spreadsheet program and save it, which computes the values, or save the sheet as CSV"
        )
    return _table(path, filled[title], notes, reading)


def _chosen(path: str, filled: Iterable[str], hidden: set[str], wanted: str | None) -> str:
    """Return the title of the sheet to read."""
    if wanted is None:
        return next((title for title in filled if title not in hidden), next(iter(filled)))
    if wanted not in filled:
        raise UserError(f"data.sheet={wanted}: {path} has no such sheet with values; {nearest(wanted, filled)}")
    return wanted


def _uncomputed(file: Path, title: str) -> str:
    """Return the first cell that holds a formula without a stored value; empty if there is none."""
    import openpyxl

    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
        if not any(re.search(rb"<f[ >/]", archive.read(name)) for name in names):
            return ""
    formulas = openpyxl.load_workbook(file, read_only=True)
    values = openpyxl.load_workbook(file, read_only=True, data_only=True)
    try:
        for written, stored in zip(formulas[title].iter_rows(), values[title].iter_rows(), strict=True):
            for cell, value in zip(written, stored, strict=True):
                if cell.data_type == "f" and value.value is None:
                    return str(cell.coordinate)
    finally:
        formulas.close()
        values.close()
    return ""


def _rows(path: str, sheet: Any) -> list[tuple[int, list[str]]]:
    """Return the rows of a sheet that hold anything, with their numbers."""
    rows, size, cells = [], 0, 0
    for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
        row = [_text(value) for value in values]
        cells += len(row)
        if any(row):
            rows.append((number, row))
            size += sum(map(len, row))
        if number % _ROWS == 0:  # one text may stand in many cells, and a far cell makes many empty ones
            check_size(path, size + cells)
    return rows


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
