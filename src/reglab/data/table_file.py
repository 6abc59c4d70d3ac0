"""Read a table from a file: CSV, Parquet, Excel or JSON lines, by the ending of its name."""

import re
import unicodedata
import zlib
from collections.abc import Iterable
from pathlib import Path

from reglab.core.errors import UserError, nearest
from reglab.core.override import typed
from reglab.data.package_file import located
from reglab.data.table_csv import read_csv
from reglab.data.table_memory import read_bytes
from reglab.data.table_options import Reading
from reglab.data.table_parquet import read_parquet
from reglab.data.table_raw import RawTable, composed, without_row_numbers

TEXT, PARQUET = (".csv", ".tsv", ".txt"), (".parquet", ".pq")
JSON_LINES, EXCEL = (".jsonl", ".ndjson"), (".xlsx",)
EFFECTIVE = {  # the kinds of files for which an option decides anything
    "separator": TEXT,
    "encoding": (*TEXT, *JSON_LINES),
    "header": (*TEXT, *EXCEL),
    "decimal": (*TEXT, *EXCEL, *JSON_LINES),
    "missing": (*TEXT, *EXCEL, *JSON_LINES),
    "sheet": EXCEL,
}
_KINDS = {  # by the first bytes
    b"\x1f\x8b": ("compressed by gzip", "let its name end in .csv.gz"),
    b"PK\x03\x04": ("an Excel workbook or a ZIP archive", "let a workbook's name end in .xlsx, or unpack the archive"),
    b"\xd0\xcf\x11\xe0": ("an Excel file of the old kind", "save it as .xlsx or CSV"),
    b"PAR1": ("a Parquet file", "let its name end in .parquet"),
    b"BZh": ("compressed by bzip2", "unpack it, or compress it by gzip"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it, or compress it by gzip"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "unpack it, or compress it by gzip"),
    b"SQLite format 3": ("a SQLite database", "export the table as CSV"),
}
ENDINGS = (*TEXT, *PARQUET, *EXCEL, *JSON_LINES)


def read_table(path: str | None, reading: Reading | None = None) -> RawTable:
    """Return the columns of a file; text files may be compressed (``.csv.gz``).

    Args:
        path: Of the file.
        reading: Options; None: by what the file shows.

    Raises:
        UserError: If no path is given, the file is missing, empty or unreadable, or of another
            kind.
    """
    reading = reading or Reading()
    if path is None:
        raise UserError("data.path is not set: give your file, as in data=table data.path=FILE.csv data.target=COLUMN")
    file = located(str(path))
    ending = _check_file(file)
    for key, endings in EFFECTIVE.items():
        if getattr(reading, key) is not None and ending not in endings:
            raise UserError(
                f"data.{key}={getattr(reading, key)} has no effect on {file.name}, only on {', '.join(endings)}: leave "
                "it out"
            )
    try:
        if ending in PARQUET:
            table = read_parquet(str(path), file)
        elif ending in EXCEL:
            from reglab.data.table_excel import read_excel

            table = read_excel(str(path), file, reading)
        elif ending in JSON_LINES:
            from reglab.data.table_json import read_json_lines

            table = read_json_lines(str(path), _bytes(file), reading)
        else:
            table = read_csv(str(path), _bytes(file), reading)
    except (ValueError, OSError, EOFError, KeyError, zlib.error) as error:  # also of Arrow
        raise UserError(
            f"data.path={path} cannot be read: {str(error).strip()}. Is it a whole {ending} file?"
        ) from error
    except MemoryError as error:  # a limit on this process
        raise UserError(
            f"data.path={path} does not fit into the memory: take fewer rows or columns of it, or a larger machine"
        ) from error
    if not table.rows:
        raise UserError(f"data.path={path} has no rows: give a file with a header line and data below it")
    return without_row_numbers(composed(str(path), table))


def _bytes(file: Path) -> bytes:
    """Return the text of a file, decompressed.

    Raises:
        UserError: For a file of another kind, whatever its name says, and for one that does not fit
            into the memory.
    """
    data = read_bytes(file)
    for mark, (what, then) in _KINDS.items():
        if data.startswith(mark):
            raise UserError(f"data.path={file} is {what}, whatever its name says: {then}")
    return data


def check_columns(columns: Iterable[str], key: str, names: Iterable[object]) -> list[str]:
    """Return ``names``, which must be among ``columns``; the option ``key`` gave them.

    A column called ``1e3`` or ``True`` comes from the command line as ``1000.0`` or ``true``.

    Raises:
        UserError: Naming the nearest.
    """
    chosen, known = list[str](), list(columns)
    for name in map(str, names):
        same = [name] if name in known else [column for column in known if _as_value(column) == _as_value(name)]
        if len(same) != 1:
            raise UserError(f"data.{key}={name} is not a column: {_hint(key, name, known)} {list_columns(known)}")
        chosen += same
    return chosen


def _hint(key: str, name: str, known: list[str]) -> str:
    hint = nearest(name, known)
    found = re.fullmatch(r"did you mean '(.*)'\?", hint, re.DOTALL)
    if found and (word := typed(f"data.{key}", found[1])) != f"data.{key}={found[1]}":
        hint = f"did you mean {word}?"
    one = len(known) == 1 and re.search(r"[\s:|;,]", known[0])
    return f"{hint} Is another character between its columns? Set data.separator." if one else hint


def _as_value(name: str) -> object:
    """Return what Hydra makes of a name that stands in no quotes: a number, a truth, no spaces
    around it.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if name.lower() in ("true", "false"):
        return name.lower()
    try:
        return float(name)
    except ValueError:
        return name


def list_columns(columns: Iterable[str], most: int = 30) -> str:
    """Return the sentence that lists the columns."""
    names = list(columns)
    rest = f", and {len(names) - most} more" if len(names) > most else ""
    return f"The file has the columns {', '.join(names[:most])}{rest}"


def _check_file(file: Path) -> str:
    """Return the ending of the file's name, without that of its compression."""
    if not file.parent.is_dir():
        raise UserError(f"data.path={file}: there is no folder {file.parent.resolve()}")
    if file.exists() and not file.is_file():
        kind = "a folder: give a file" if file.is_dir() else "a pipe or a device: save what comes from it into a file"
        raise UserError(f"data.path={file} is {kind}")
    if not file.is_file():
        beside = [other.name for other in file.parent.iterdir() if _ending(other) in ENDINGS]
        raise UserError(f"data.path={file}: no such file in {file.parent.resolve()}; {nearest(file.name, beside)}")
    ending = _ending(file)
    if ending not in ENDINGS or (file.suffix.lower() == ".gz" and ending in (*PARQUET, *EXCEL)):
        raise UserError(
            f"data.path={file} ends in {file.suffix or 'nothing'}: reglab reads {', '.join(ENDINGS)}, and .gz of the "
            "texts among them. Rename the file if it is one of these, else convert it"
        )
    return ending


def _ending(file: Path) -> str:
    return (Path(file.stem) if file.suffix.lower() == ".gz" else file).suffix.lower()
