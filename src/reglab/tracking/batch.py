"""What is sent at once from a journal to a store."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from reglab.tracking.lines import Row, lines, metric_rows

T = TypeVar("T")
_ROWS = 50_000  # large transactions are several times faster a row; this many take some 10 MB


class Unsent(Exception):  # noqa: N818 - a state to be mended by sending again, not an error of the run
    """The store did not take a batch. Nothing is lost: the journal keeps it."""


@dataclass
class Batch:
    """Part of a journal. status: the last one in it, with its time in milliseconds. end: position behind the part."""

    rows: list[Row] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], None] = field(default_factory=dict)  # (file, folder of the store), each once
    status: tuple[str, int] | None = None
    end: int = 0


class Sink(Protocol):
    """A store that takes batches. Taking one twice must change nothing."""

    def send(self, batch: Batch) -> None:
        """Store ``batch``, or raise Unsent."""


def read_batch(path: Path, after: int, rows: int = _ROWS) -> Batch:
    """Return what the journal at ``path`` holds behind byte ``after``, up to about ``rows`` metric rows."""
    batch = Batch(end=after)
    for content, end in lines(path, after):
        batch.end = end
        batch.rows.extend(metric_rows(content))
        batch.tags.update(content.get("tags", {}))
        if "artifact" in content:
            batch.artifacts[content["artifact"], content["folder"]] = None
        if "status" in content:
            batch.status = (content["status"], content["time"])
        if len(batch.rows) >= rows:
            break
    return batch


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield ``items`` in lists of ``size``, the last one perhaps shorter. (itertools.batched came with Python 3.12.)"""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
