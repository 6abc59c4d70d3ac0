"""Files of new rows, read in pieces, so that memory stays flat however large they are."""

import codecs
import gzip
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

from reglab.core.errors import UserError
from reglab.data.table_csv import BOMS, read_csv
from reglab.data.table_file import EFFECTIVE, PARQUET, TEXT, read_table
from reglab.data.table_options import Reading
from reglab.data.table_parquet import frame_columns
from reglab.data.table_raw import RawTable, composed

WHOLE = 1 << 22  # bytes up to which a file is read at once
ROWS = 1 << 15  # of a Parquet file that are read at a time


def tables(path: Path, reading: Reading, piece: int = WHOLE) -> Iterator[RawTable]:
    """Yield the rows of a file in order, as tables of texts or typed columns.

    CSV and Parquet files are read in pieces; the others, and small ones, at once.

    Args:
        path: Of the file.
        reading: Options; those that decide nothing for such a file are left aside.
        piece: The bytes of text that are read at a time.

    Raises:
        UserError: For a file that cannot be read.
    """
    reading, ending = _effective(path, reading)
    small = path.is_file() and path.suffix.lower() != ".gz" and path.stat().st_size <= piece
    if small or not path.is_file() or ending not in (*TEXT, *PARQUET):
        yield read_table(str(path), reading)
    elif ending in PARQUET:
        yield from _row_groups(path)
    else:
        yield from _pieces(path, reading, piece)


def whole_table(path: Path, reading: Reading) -> RawTable:
    """Return all rows of a file, where they depend on each other.

    Args:
        path: Of the file.
        reading: Options; those that decide nothing for such a file are left aside.

    Raises:
        UserError: For a file that cannot be read.
    """
    return read_table(str(path), _effective(path, reading)[0])


def _effective(path: Path, reading: Reading) -> tuple[Reading, str]:
    """Return the options that decide something for a file, and the ending of its name."""
    ending = (Path(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()
    return replace(reading, **{key: None for key, endings in EFFECTIVE.items() if ending not in endings}), ending


def _row_groups(path: Path) -> Iterator[RawTable]:
    import pyarrow as pa
    from pyarrow import parquet

    first = 0
    try:
        with parquet.ParquetFile(path) as opened:
            for batch in opened.iter_batches(ROWS):
                table = pa.Table.from_batches([batch], opened.schema_arrow)
                columns, notes, unusable = frame_columns(table)
                yield composed(str(path), RawTable(columns, table.num_rows, _row(first), notes, unusable=unusable))
                first += table.num_rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"data.path={path} cannot be read ({error}): is it a whole Parquet file?") from error


def _row(first: int) -> Callable[[int], str]:
    """Return where a row of a piece stands, whose first row is ``first`` of the file."""
    return lambda row: f"row {first + row + 1}"


def _pieces(path: Path, reading: Reading, piece: int) -> Iterator[RawTable]:
    """Yield the rows of a text file; each piece is read behind the lines above the first row."""
    above, first = b"", 0
    for text in _records(path, reading, piece):
        if first == 0:
            table = read_csv(str(path), text, replace(reading, encoding=None))
            above = _header(table)
            reading = replace(reading, separator=table.separator, header=True)
        else:
            try:
                table = read_csv(str(path), above + text, replace(reading, encoding=None))
            except UserError as error:
                raise UserError(f"{error} (lines are counted from row {first + 1} of the table)") from error
            table = replace(table, place=_row(first))
        first += table.rows
        yield composed(str(path), table)


def _header(table: RawTable) -> bytes:
    """Return a line with the names of the columns."""
    quoted = ('"' + name.replace('"', '""') + '"' for name in table.columns)
    return (table.separator.join(quoted) + "\n").encode()


def _records(path: Path, reading: Reading, piece: int) -> Iterator[bytes]:
    """Yield the text of a file as UTF-8, cut behind lines that end outside of quotes."""
    try:
        with _opened(path) as file:
            start = file.read(4)
            marked = next((name for mark, name in BOMS.items() if start.startswith(mark)), "utf-8-sig")
            decoder = codecs.getincrementaldecoder(reading.encoding or marked)()
            kept, data = "", start
            while data:
                data = file.read(piece)
                kept += decoder.decode(start + data, final=not data)
                start = b""
                end = _last_end(kept) if data else len(kept)
                if end:
                    yield kept[:end].encode()
                    kept = kept[end:]
    except (UnicodeError, LookupError) as error:
        raise UserError(
            f"data.path={path} is no text in {reading.encoding or 'UTF-8'} ({error}): set data.encoding=cp1252, or "
            "another one"
        ) from error
    except (OSError, EOFError) as error:
        raise UserError(f"data.path={path} cannot be read ({error}): is it a whole file?") from error


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _last_end(text: str) -> int:
    """Return where the last line ends that is outside of quotes; 0: nowhere."""
    end = text.rfind("\n") + 1
    quotes = text.count('"', 0, end)
    while end and quotes % 2:
        earlier = text.rfind("\n", 0, end - 1) + 1
        quotes, end = quotes - text.count('"', earlier, end), earlier
    return end
