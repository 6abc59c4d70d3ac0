"""What is sent at once from a journal to a store."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from reglab.tracking.folder import JOURNAL, Identity
from reglab.tracking.lines import Row, lines, metric_rows
from reglab.tracking.points import Thinning

T = TypeVar("T")
ROWS = 50_000  # large transactions are several times faster a row; this many take some 15 MB


class Unsent(Exception):  # noqa: N818 - a state to be mended by sending again, not an error of the run
    """The store did not take a batch. Nothing is lost: the journal keeps it."""


class Refused(Unsent):
    """The store is there, but does not take this run, perhaps deleted; it may take the batches of others."""


@dataclass
class Batch:
    """Part of a run's journal. status: the last one in it, with its time in milliseconds. end: position behind it.

    folder: where relative artifact paths start.
    """

    identity: Identity
    folder: Path
    rows: list[Row] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], None] = field(default_factory=dict)  # (file, folder of the store), each once
    status: tuple[str, int] | None = None
    end: int = 0


class Sink(Protocol):
    """A store that takes batches of any runs. Taking one twice must change nothing."""

    def send(self, batches: Sequence[Batch]) -> None:
        """Store ``batches``, at most one of each run; or raise Refused because of one of them, or Unsent."""


def read_batch(identity: Identity, folder: Path, after: int, rows: int = ROWS) -> Batch:
    """Return what the journal in ``folder`` holds behind byte ``after``, up to about ``rows`` metric rows.

    Rows that the run's budget of points leaves out are passed over.
    """
    rule = identity.thinning
    batch = Batch(identity, folder, end=after)
    everything = rule == Thinning()
    for content, end in lines(folder / JOURNAL, after, None if everything else rule.keeps_some):
        batch.end = end
        found = metric_rows(content)
        batch.rows.extend(found if everything else [row for row in found if rule.keeps(row.key, row.step)])
        batch.rows.extend(Row(*row) for row in content.get("last", ()))
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
