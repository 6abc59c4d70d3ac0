"""Read JSON lines (one object a line) as texts, whose columns get their types as a CSV's."""

import json
from typing import Any

from reglab.core.errors import UserError
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable


def read_json_lines(path: str, data: bytes, reading: Reading) -> RawTable:
    """Return the keys of all objects as columns, in order of appearance.

    A key that an object lacks, and null, are missing.

    Args:
        path: Of the file, for messages.
        data: Its bytes.
        reading: Options.

    Raises:
        UserError: For a line that is no object of numbers, texts, true, false and null.
    """
    import pyarrow as pa

    objects, lines = [], []
    for number, line in enumerate(_text(path, data, reading).split("\n"), 1):
        if line.strip():
            objects.append(_object(path, number, line))
            lines.append(number)
    names = list(dict.fromkeys(name for each in objects for name in each))
    columns = {name: pa.chunked_array([[each.get(name, "") for each in objects]], pa.string()) for name in names}
    return RawTable(columns, len(objects), lambda row: f"line {lines[row]}")


def _text(path: str, data: bytes, reading: Reading) -> str:
    try:
        return data.decode(reading.encoding or "utf-8-sig")
    except UnicodeError as error:
        raise UserError(
            f"data.path={path} cannot be read as {reading.encoding or 'UTF-8'} ({error}): set another data.encoding"
        ) from error


def _object(path: str, number: int, line: str) -> dict[str, str]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("it has one key twice")
        return dict(pairs)

    try:
        found = json.loads(line, parse_int=str, parse_float=str, object_pairs_hook=unique)
        if not isinstance(found, dict):
            raise ValueError("it is no object, {...}")
        nested = next((name for name, value in found.items() if isinstance(value, dict | list)), None)
        if nested is not None:
            raise ValueError(f"{nested!r} holds several values")
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"data.path={path} cannot be read: line {number} ({error}). Each line must be one object of numbers and "
            'texts, like {"a": 1, "b": "x"}'
        ) from error
    return {name: "" if value is None else str(value) for name, value in found.items()}
