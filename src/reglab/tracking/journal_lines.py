"""Encode and decode lines of the journal; damaged lines are skipped."""

import json
import mmap
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

_METRICS = re.compile(rb'\{"time":\d+,"step":(-?\d+),"metrics":')
_NUMBERS = {int, float}
_LARGEST = 2**63 - 1
_STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED")
_SKIPPED: Mapping[str, Any] = {}


class Row(NamedTuple):
    """One metric value.

    Args:
        timestamp: Milliseconds since 1970, taken when it was recorded and kept for ever.
    """

    key: str
    value: float
    timestamp: int
    step: int


class Series(NamedTuple):
    """Rows of one key as columns, in the order of the journal.

    Millions of them are no objects of their own.

    Args:
        timestamps: Milliseconds since 1970.
    """

    timestamps: list[int]
    steps: list[int]
    values: list[float]

    def joined(self, more: "Series") -> "Series":
        """Return the rows of both."""
        return Series(self.timestamps + more.timestamps, self.steps + more.steps, self.values + more.values)


class Line(NamedTuple):
    """One line's content, and the byte position behind it."""

    content: Mapping[str, Any]
    end: int


@dataclass(frozen=True, eq=False)
class Layout:
    """The keys of many lines of metric rows.

    Args:
        line: To be filled with (time, step, value of each key).
    """

    keys: tuple[str, ...]
    line: bytes


@lru_cache
def layout(keys: tuple[str, ...]) -> Layout:
    """Return the layout of lines with these keys.

    Raises:
        ValueError: Where one is there twice.
    """
    if len(set(keys)) < len(keys):
        raise ValueError(
            f"keys must differ, got {', '.join(sorted({key for key in keys if keys.count(key) > 1}))} twice"
        )
    pairs = ",".join(json.dumps(key).replace("%", "%%") + ":%r" for key in keys)
    return Layout(keys, f'{{"time":%d,"step":%d,"metrics":{{{pairs}}}}}\n'.encode())


def encode(event: Mapping[str, object]) -> bytes:
    """Return ``event`` as a JSON line, NaN and infinities as Python's json writes them."""
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Mapping[str, Any] | None:
    """Return the content of a line; None if it cannot be read.

    Zeros in front of it, which a power loss leaves where a part of the file was not yet written,
    are passed over.
    """
    try:
        content = json.loads(line[line.rfind(b"\0") + 1 :])
    except (ValueError, RecursionError):  # RecursionError: a stranger's nesting
        return None
    return content if isinstance(content, dict) and _is_sound(content) else None


def lines(path: Path, after: int = 0, wanted: Callable[[bytes, int], bool] | None = None) -> Iterator[Line]:
    """Yield the whole lines behind byte ``after``, which must be 0 or the end of a line.

    None if the file ends before. A last line without its newline is being written by another
    process or was torn: it is left. A line in the middle that is no JSON object (a power loss can
    leave zeros) is passed over.

    Args:
        wanted: Whether a line of metric rows, given with its step, is. Others come without content,
            and are not decoded, which costs most of the time.
    """
    with path.open("rb") as file:
        end = file.seek(after)
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            skipped = wanted and (match := _METRICS.match(line)) and not wanted(line, int(match[1]))
            content = _SKIPPED if skipped else decode(line)
            if content is not None:
                yield Line(content, end)


def marked(path: Path, *marks: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the lines that contain one of ``marks``, the last one first; no other line is decoded.

    A million rows of metrics between them cost a search of the file, and less where the first lines
    yielded suffice. A last line without its newline is left, as one that cannot be read.

    Args:
        path: Of the journal.
        marks: Such as ``b'"status":'``.
    """
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return  # which mmap refuses
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as journal:
            end = journal.rfind(b"\n") + 1
            positions = {mark: journal.rfind(mark, 0, end) for mark in marks}
            while (position := max(positions.values())) >= 0:
                start = journal.rfind(b"\n", 0, position) + 1
                if (content := decode(journal[start : journal.find(b"\n", position)])) is not None:
                    yield content
                positions = {
                    mark: at if at < start else journal.rfind(mark, 0, start) for mark, at in positions.items()
                }


def metric_rows(content: Mapping[str, Any]) -> list[Row]:
    """Return the metric rows of one line; none if it holds something else."""
    if not (metrics := content.get("metrics")):
        return []
    time, step = content["time"], content["step"]
    # past the class's own __new__, which takes twice as long: there are millions
    return [tuple.__new__(Row, (key, value, time, step)) for key, value in metrics.items()]


def _is_sound(content: Mapping[str, Any]) -> bool:
    """Return whether a line is well-formed: its folder may be from another user."""
    timed = _is_storable(content.get("time")) and type(content["time"]) is int
    if "metrics" in content:
        metrics = content["metrics"]
        kinds = set(map(type, metrics.values())) if isinstance(metrics, dict) else {str}
        numbers = kinds <= _NUMBERS and (int not in kinds or all(map(_is_storable, metrics.values())))
        return numbers and timed and type(content.get("step")) is int and _is_storable(content["step"])
    if "artifact" in content and not (isinstance(content["artifact"], str) and isinstance(content.get("folder"), str)):
        return False
    if "status" in content and not (timed and content["status"] in _STATUSES):
        return False
    rows = content.get("last", [])
    tags = content.get("tags", {})
    texts = isinstance(tags, dict) and all(isinstance(value, str) and "\0" not in value for value in tags.values())
    return texts and isinstance(rows, list) and all(map(_is_row, rows))


def _is_storable(number: object) -> bool:
    """Return whether a number fits into what stores have for it: 64 bits."""
    return isinstance(number, float) or (type(number) is int and -_LARGEST <= number <= _LARGEST)


def _is_row(row: object) -> bool:
    if not (isinstance(row, list) and len(row) == 4):
        return False
    key, value, timestamp, step = row
    whole = type(timestamp) is type(step) is int
    return isinstance(key, str) and isinstance(value, (int, float)) and whole and all(map(_is_storable, row[1:]))
