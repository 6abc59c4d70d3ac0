"""Read delimited text (CSV) as texts: encoding, separator, header, fields of each line."""

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reglab.core.errors import UserError
from reglab.data.table_options import SEPARATORS, Reading
from reglab.data.table_raw import RawTable, check_names

if TYPE_CHECKING:
    import pyarrow as pa

_GUESSED = (",", ";", "\t", "|")
_BLOCK = 1 << 22  # bytes that are parsed together; a record must fit into one
_LONG = 40  # characters of a field that a message shows
_LINE_END = re.compile(rb"\r\n|\r|\n")  # what csv and Arrow take for one
_SAMPLE = 1 << 16  # bytes by which the separator is recognised
BOMS = {  # the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


class _Rows(NamedTuple):
    """The text from ``start`` on, which is line ``line`` of the file."""

    data: bytes
    separator: str
    start: int
    line: int


class _Body(NamedTuple):
    """The text below lines that are no part of the table, and how many those are."""

    data: bytes
    skipped: int
    separator: str | None
    notes: tuple[str, ...]


def read_csv(path: str, data: bytes, reading: Reading) -> RawTable:
    """Return the columns of delimited text, all of them as texts.

    Args:
        path: Of the file, for messages.
        data: Its bytes.
        reading: Options.

    Raises:
        UserError: For what cannot be read, or can be read in two ways, with the line.
    """
    text = _decode(path, data, reading.encoding)
    if not text[:4096].strip() and not text.strip():
        raise UserError(f"data.path={path} cannot be read: the file is empty. Give one with a header and rows below it")
    body = _without_preface(text)
    separator = reading.delimiter or body.separator or _separator(body.data)
    header, below = _split_header(path, body, separator, reading.header)
    table, notes = _parse(path, header, below)
    names = [name or f"Unnamed: {index}" for index, name in enumerate(header)]
    check_names(path, names)
    again = set[int]()
    if reading.header is not False:
        table, again = _without_headers(table, header)

    def line(row: int) -> int:
        lines = (line for index, (line, _) in enumerate(_records(*below[:3])) if index not in again)
        return below.line + next(itertools.islice(lines, row, None), row)

    if again:
        notes = (*notes, f"the header stands in the file {len(again) + 1} times: left out below the first line")
    columns = dict(zip(names, table.columns, strict=True))
    return RawTable(columns, table.num_rows, lambda row: f"line {line(row)}", (*body.notes, *notes), separator)


def _without_headers(table: "pa.Table", header: list[str]) -> tuple["pa.Table", set[int]]:
    """Leave out rows that are the header once more, as in files that were put together."""
    import pyarrow.compute as pc

    named = [(index, name) for index, name in enumerate(header) if name]
    if len(named) < 2 or len(header) != table.num_columns:
        return table, set()
    (first, name), *others = named
    same = pc.equal(pc.utf8_ltrim(table.column(first), "\ufeff"), name)
    if not pc.any(same).as_py():
        return table, set()
    for index, name in others:
        same = pc.and_(same, pc.equal(table.column(index), name))
    return table.filter(pc.invert(same)), set(np.flatnonzero(same.to_numpy()).tolist())


def _decode(path: str, data: bytes, encoding: str | None) -> bytes:
    """Return the text as UTF-8, without a byte order mark."""
    marked = next((name for mark, name in BOMS.items() if data.startswith(mark)), None)
    try:
        if encoding or marked:
            data = data.decode(encoding or str(marked)).removeprefix("\ufeff").encode()
        elif not data.isascii():
            data.decode()
    except (UnicodeDecodeError, UnicodeError) as error:
        raise UserError(_not_decoded(path, data, encoding or marked or "utf-8", error)) from error
    if b"\0" in data:
        raise UserError(
            f"data.path={path} cannot be read: it holds zero bytes, which no text does. Is it a whole CSV file? "
            "Text in UTF-16 without a mark is read by data.encoding=utf-16-le"
        )
    return data


def _not_decoded(path: str, data: bytes, encoding: str, error: UnicodeError) -> str:
    start = getattr(error, "start", 0)
    line = data.count(b"\n", 0, start) + 1
    if encoding != "utf-8":
        return f"data.path={path} cannot be read as {encoding} (line {line}): choose another data.encoding"
    word = re.split(rb"[\s,;|\"]", data[max(0, start - 20) : start])[-1] + re.split(rb"[\s,;|\"]", data[start:])[0]
    shown = word[:40].decode("cp1252", "replace")
    return (
        f"data.path={path} cannot be read: line {line} is no text in UTF-8. In cp1252 (Windows, western Europe) it "
        f"says {shown!r}: set data.encoding=cp1252 if that is right, else another one, such as cp1250 or utf-16"
    )


def _without_preface(text: bytes) -> _Body:
    """Cut off what spreadsheets and instruments write above the table: ``sep=;``, comments, blank
    lines.
    """
    skipped, separator, notes = 0, None, list[str]()
    while True:
        end = _LINE_END.search(text)
        line = text[: end.end()] if end else text  # no copy of the rest for each
        if line[0] not in b'#\r\n \t"sS':
            return _Body(text, skipped, separator, tuple(notes))
        rest = text[len(line) :]
        if not line.strip() and rest:
            pass
        elif skipped == 0 and (given := re.fullmatch(rb'"?sep=(.)"?\s*', line, re.IGNORECASE)):
            separator = given[1].decode("latin-1")
        elif line.startswith(b"#") and rest.strip() and _is_comment(line, rest):
            notes.append(f"line {skipped + 1} is a comment ({line[:40].decode(errors='replace').strip()!r}): left out")
        else:
            return _Body(text, skipped, separator, tuple(notes))
        text, skipped = rest, skipped + 1


def _is_comment(line: bytes, rest: bytes) -> bool:
    """Return whether a line that begins with # is no header: it has other fields than what follows."""
    below = rest.lstrip(b"\r\n")
    if below.startswith(b"#"):
        return True
    separator = _separator(below)
    fields = [next(_records(part, separator), (0, []))[1] for part in (line, below)]
    return len(fields[0]) != len(fields[1])


def _records(data: bytes, separator: str, start: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of its first line, from 0, and the fields of each record that is no blank
    line.
    """
    text = io.BytesIO(data)
    text.seek(start)
    lines = io.TextIOWrapper(text, encoding="utf-8", errors="replace", newline="")
    reader, before = csv.reader(lines, delimiter=separator), 0
    limit = csv.field_size_limit(max(len(data), 1))
    try:
        for fields in reader:
            if fields:
                yield before, fields
            before = reader.line_num
    finally:
        csv.field_size_limit(limit)


def _separator(data: bytes) -> str:
    """Return the separator that gives all first records the same fields; among several,
    clevercsv's.
    """
    sample = data[:_SAMPLE]
    counts = {sign: [len(fields) for _, fields in _records(sample, sign)] for sign in _GUESSED}
    if len(data) > _SAMPLE:
        counts = {sign: many[:-1] if len(many) > 1 else many for sign, many in counts.items()}
    even = [sign for sign, many in counts.items() if many[0] > 1 and len(set(many)) == 1]
    # One more field in every line below the header: a comma at the end of each, or names of rows.
    shifted = [sign for sign, many in counts.items() if many[0] > 1 and set(many[1:]) == {many[0] + 1}]
    used = [sign for sign, many in counts.items() if Counter(many).most_common(1)[0][0] > 1]
    candidates = even or shifted or used
    if len(candidates) < 2:
        return candidates[0] if candidates else ","
    import clevercsv

    try:
        found = clevercsv.Sniffer().sniff(sample[:8000].decode(errors="replace"), delimiters=candidates)
    except clevercsv.exceptions.Error:
        return candidates[0]
    return found.delimiter if found and found.delimiter in candidates else candidates[0]


def _split_header(path: str, body: _Body, separator: str, wanted: bool | None) -> tuple[list[str], _Rows]:
    """Return the names of the columns and the text below them."""
    records = _records(body.data, separator)
    header = next(records)[1]
    second = next(records, None)
    if wanted is False:
        return list(map(str, range(len(header)))), _Rows(body.data, separator, 0, body.skipped + 1)
    if wanted is None and _looks_like_data(header):
        raise UserError(
            f"data.path={path}: line {body.skipped + 1} holds only numbers ({', '.join(header[:5])}): is it the header "
            "or data? Set data.header=true, or data.header=false (the columns are then called 0, 1, ...)"
        )
    if second is None:
        raise UserError(f"data.path={path} has no rows: give a file with a header line and data below it")
    ends = [end.end() for end in itertools.islice(_LINE_END.finditer(body.data), second[0])]
    return header, _Rows(body.data, separator, ends[-1], body.skipped + 1 + second[0])


def _looks_like_data(header: list[str]) -> bool:
    """Return whether all names are numbers, but do not count up, as years or wavelengths do."""
    try:
        numbers = list(map(float, header))
    except ValueError:
        return False
    return len(numbers) > 1 and any(b <= a for a, b in itertools.pairwise(numbers))


def _parse(path: str, header: list[str], rows: _Rows) -> tuple["pa.Table", tuple[str, ...]]:
    """Return the rows as texts, as many columns as the header has names, and notes."""
    import pyarrow as pa

    width = len(next(_records(*rows[:3]))[1])
    if width not in (len(header), len(header) + 1):
        raise UserError(_uneven(path, header, rows))
    try:
        table = _read_arrow(rows, width)
    except pa.ArrowInvalid as error:
        raise UserError(_uneven(path, header, rows) or f"data.path={path} cannot be read: {error}") from error
    if width == len(header):
        return table, ()
    first, last = table.column(0), table.column(width - 1)
    if last.unique().to_pylist() == [""]:
        return table.remove_column(width - 1), ("every line below the header ends in a separator: left out",)
    texts = first.to_pylist()
    counted = any(texts == list(map(str, range(start, start + len(texts)))) for start in (0, 1))
    if counted or (len(set(texts)) == len(texts) and not any(map(_is_number, texts))):
        return table.remove_column(0), (f"the first column ({texts[0]!r}, ...) holds names of rows: left out",)
    raise UserError(_uneven(path, header, rows))


def _read_arrow(rows: _Rows, width: int) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import csv as arrow

    names = [str(index) for index in range(width)]
    below = len(rows.data) - rows.start
    quoted = b'"' in rows.data

    def parse(block: int) -> "pa.Table":
        return arrow.read_csv(
            pa.py_buffer(rows.data).slice(rows.start),
            read_options=arrow.ReadOptions(column_names=names, block_size=block),
            parse_options=arrow.ParseOptions(delimiter=rows.separator, newlines_in_values=quoted),
            convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), check_utf8=False),
        )

    try:
        return parse(_BLOCK)
    except pa.ArrowInvalid:
        if below <= _BLOCK:
            raise
        return parse(below + 1)  # a record that is longer than a block


def _uneven(path: str, header: list[str], rows: _Rows) -> str:
    """Return the message about the first line with another number of fields; empty if there is
    none.
    """
    named = next((word for word, sign in SEPARATORS.items() if sign == rows.separator), repr(rows.separator))
    for line, fields in _records(*rows[:3]):
        if len(fields) == len(header):
            continue
        where = f"data.path={path}: line {rows.line + line}"
        if any("\n" in field and len(field) > _LONG for field in fields):
            return f"{where} has a quote that is not closed, or not where it should be: correct the line"
        given = ", ".join(repr(field[:_LONG]) for field in fields[:6])
        message = (
            f"{where} has {len(fields)} field{'s' * (len(fields) != 1)} ({given}), but the header names {len(header)} "
            f"({', '.join(header[:6])}), separated by {named}"
        )
        if len(fields) == len(header) + 1:
            return (
                f"{message}: {fields[0]!r} is {header[0]} if the last field is too many, and {fields[1]!r} is if the "
                "first one is the name of the row. Add its name to the header, or correct the line"
            )
        return f"{message}: correct the line, put fields that hold the separator in quotes, or set data.separator"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
