"""Payload: the part of a journal that is sent to a store at once, and the sink protocol."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from reglab.core.describe_error import storable
from reglab.tracking.artifacts_left import Artifact
from reglab.tracking.folder import JOURNAL, Identity
from reglab.tracking.journal_lines import Row, Series, lines
from reglab.tracking.thinning import Thinning

T = TypeVar("T")
ROWS = 50_000  # large transactions are several times faster a row; this many take some 15 MB


class Unsent(Exception):  # noqa: N818 - a state: it is sent again
    """The store did not accept a payload. Nothing is lost: the journal keeps it."""


class Refused(Unsent):
    """The store can be reached, but does not accept this run, perhaps deleted; others it may."""


@dataclass
class Payload:
    """Part of a run's journal.

    Args:
        status: The last one in it, with its time in milliseconds.
        end: Position behind it.
        folder: Where relative artifact paths start.
        series: Metric rows by key.
    """

    identity: Identity
    folder: Path
    series: dict[str, Series] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    # (file, folder of the store), each once.
    artifacts: dict[Artifact, None] = field(default_factory=dict)
    status: tuple[str, int] | None = None
    end: int = 0

    @property
    def size(self) -> int:
        """How many metric rows it has."""
        return sum(len(series.steps) for series in self.series.values())

    def rows(self) -> Iterator[Row]:
        """Yield the metric rows, key by key."""
        for key, series in self.series.items():
            for timestamp, step, value in zip(*series, strict=True):
                yield Row(key, value, timestamp, step)

    def add(self, key: str, value: float, timestamp: int, step: int) -> None:
        """Add a metric row."""
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series([], [], [])
        series.timestamps.append(timestamp)
        series.steps.append(step)
        series.values.append(value)


class Sink(Protocol):
    """A store that accepts payloads of any runs. Sending one twice must change nothing."""

    def send(self, payloads: Sequence[Payload]) -> None:
        """Store rows, tags and statuses of ``payloads``, at most one of each run.

        Raises:
            Refused: Because of one of the runs.
            Unsent: Where nothing is stored.
        """

    def send_artifact(self, run_id: str, home: Path, artifact: Artifact) -> None:
        """Store one artifact of the run in ``home``, whose rows the store has taken.

        Raises:
            ArtifactLeft: Where it is not stored.
        """


def read_payload(identity: Identity, folder: Path, after: int, rows: int = ROWS) -> Payload:
    """Return the journal of ``folder`` from byte ``after`` on, about ``rows`` metric rows at most.

    Rows that the run's budget of points leaves out are passed over.

    Args:
        identity: The run.
        folder: The run's folder.
        after: Byte position in the journal, 0 or the end of a line.
        rows: About so many metric rows at most.
    """
    rule = identity.thinning
    payload = Payload(identity, folder, end=after)
    keep_all, count = rule == Thinning(), 0
    for content, end in lines(folder / JOURNAL, after, None if keep_all else rule.keeps_some):
        payload.end = end
        if metrics := content.get("metrics"):
            time, step = content["time"], content["step"]
            for key, value in metrics.items():
                if keep_all or rule.keeps(key, step):
                    payload.add(key, value, time, step)
                    count += 1
        for row in content.get("last", ()):
            payload.add(*row)
            count += 1
        payload.tags.update({key: storable(value) for key, value in content.get("tags", {}).items()})
        if "artifact" in content:
            payload.artifacts[content["artifact"], content["folder"]] = None
        if "status" in content:
            payload.status = (content["status"], content["time"])
        if count >= rows:
            break
    return payload


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield ``items`` in lists of ``size``; itertools.batched, which Python 3.11 lacks."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
