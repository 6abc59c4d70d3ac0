"""What a sweep's display knows: which jobs run, how far, how the last ones ended, and how long it will take."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reglab.sweeps.events import Advanced, Ended, Event, Started


@dataclass
class Row:
    """A running job's line. done: the share of its epochs that is finished."""

    label: str
    epoch: int
    epochs: int
    metrics: Mapping[str, float]

    @property
    def done(self) -> float:
        return self.epoch / self.epochs if self.epochs else 0.0


class Board:
    """Keeps the state that events describe. clock: seconds, monotonic."""

    def __init__(self, labels: Mapping[int, str], clock: Callable[[], float], kept: int = 6):
        self.labels = labels
        self.running: dict[int, Row] = {}
        self.ends: list[Ended] = []
        self._clock, self._kept = clock, kept
        self._begin = clock()

    @property
    def total(self) -> int:
        return len(self.labels)

    @property
    def latest(self) -> Sequence[Ended]:
        """The last few jobs that ended, the newest last."""
        return self.ends[-self._kept :]

    def count(self, status: str) -> int:
        """Return how many jobs ended with this status."""
        return sum(end.status == status for end in self.ends)

    def tell(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, Started):
            self.running[event.job] = Row(self.labels[event.job], 0, 0, {})
        elif isinstance(event, Advanced):
            self.running[event.job] = Row(self.labels[event.job], event.epoch, event.epochs, event.metrics)
        else:
            self.running.pop(event.job, None)
            self.ends.append(event)

    def elapsed(self) -> float:
        """Return the seconds since the sweep began."""
        return self._clock() - self._begin

    def left(self) -> float:
        """Return the seconds that are left if jobs go on at the average pace so far; NaN before there is any."""
        done = len(self.ends) + sum(row.done for row in self.running.values())
        return self.elapsed() * (self.total - done) / done if done > 0 else math.nan


def clock_text(seconds: float) -> str:
    """Return seconds as ``m:ss`` or ``h:mm:ss``; ``-:--`` where unknown."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def figure(metrics: Mapping[str, float], key: str) -> str:
    """Return a metric for a table cell, under its own name or as the final one; empty where there is none."""
    value = metrics.get(key, metrics.get(f"final/{key}"))
    return "" if value is None else f"{value:.4g}"
