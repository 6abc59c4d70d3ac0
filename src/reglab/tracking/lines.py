"""The lines of a journal file: how they are written, and read back from a file that may end in a torn one."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from reglab.tracking.points import Thinning

_METRICS = re.compile(rb'\{"time":\d+,"step":(-?\d+),"metrics":')
_PASSED: Mapping[str, Any] = {}


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


@dataclass(frozen=True, eq=False)
class Layout:
    """The keys of many lines of metric rows. line: to be filled with (time, step, value of each key)."""

    keys: tuple[str, ...]
    line: bytes


@lru_cache
def layout(keys: tuple[str, ...]) -> Layout:
    """Return the layout of lines with these keys. Raises ValueError where one is there twice."""
    if len(set(keys)) < len(keys):
        raise ValueError(
            f"keys must differ, got {', '.join(sorted({key for key in keys if keys.count(key) > 1}))} twice"
        )
    pairs = ",".join(json.dumps(key).replace("%", "%%") + ":%r" for key in keys)
    return Layout(keys, f'{{"time":%d,"step":%d,"metrics":{{{pairs}}}}}\n'.encode())


def encode(event: Mapping[str, object]) -> bytes:
    """Return ``event`` as a JSON line; NaN and infinities are written as Python's json reads them."""
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def lines(path: Path, after: int = 0, rule: Thinning | None = None) -> Iterator[Line]:
    """Yield the whole lines behind byte ``after``, which must be 0 or the end of a line.

    rule: lines of which it keeps no row come without content, and are not decoded, which costs most of the time.

    A last line without its newline is being written by another process or was torn: it is left. A line in the
    middle that is no JSON object (a power loss can leave zeros) is passed over.
    """
    with path.open("rb") as file:
        end = file.seek(after)
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            content = _PASSED if rule and _is_thinned(line, rule) else _decode(line)
            if content is not None:
                yield Line(content, end)


def metric_rows(content: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the metric rows of one line; none if it holds something else."""
    for key, value in content.get("metrics", {}).items():
        yield Row(key, value, content["time"], content["step"])


def sound_length(path: Path) -> int:
    """Return the position behind the last line that can be read."""
    return max((line.end for line in lines(path)), default=0)


def _is_thinned(line: bytes, rule: Thinning) -> bool:
    found = _METRICS.match(line)
    return found is not None and not rule.keeps_some(line, int(found[1]))


def _decode(line: bytes) -> Mapping[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
