"""The lines of a journal file: how they are written, and read back from a file that may end in a torn one."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One metric value. timestamp: milliseconds since 1970, taken when it was recorded and kept for ever."""

    key: str
    value: float
    timestamp: int
    step: int


class Line(NamedTuple):
    """One line's content, and the byte position behind it."""

    content: Mapping[str, Any]
    end: int


def encode(event: Mapping[str, object]) -> bytes:
    """Return ``event`` as a JSON line; NaN and infinities are written as Python's json reads them."""
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def lines(path: Path, after: int = 0) -> Iterator[Line]:
    """Yield the whole lines behind byte ``after``, which must be 0 or the end of a line.

    A last line without its newline is being written by another process or was torn: it is left. A line in the
    middle that is no JSON object (a power loss can leave zeros) is passed over.
    """
    with path.open("rb") as file:
        end = file.seek(after)
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            content = _decode(line)
            if content is not None:
                yield Line(content, end)


def metric_rows(content: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the metric rows of one line; none if it holds something else."""
    for key, value in content.get("metrics", {}).items():
        yield Row(key, value, content["time"], content["step"])


def sound_length(path: Path) -> int:
    """Return the position behind the last line that can be read."""
    return max((line.end for line in lines(path)), default=0)


def _decode(line: bytes) -> Mapping[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
