"""State of the progress display: running jobs and packs, ended jobs, time left."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from reglab.analysis.formatting import compact
from reglab.launchers.events import Ended, EpochEnded, Event, Packed, Regrouped, Requeued, Started
from reglab.launchers.packing import separation_line


@dataclass
class ProgressRow:
    """The row of a running job or pack.

    Attributes:
        label: Of the job or pack.
        epoch: Epochs that are finished.
        epochs: Epochs that it trains at most; 0 before that is known.
        metrics: The latest.
        doing: What it does at the moment instead of training steps, such as compiling.
    """

    label: str
    epoch: int
    epochs: int
    metrics: Mapping[str, float]
    doing: str = ""

    @property
    def fraction(self) -> float:
        return self.epoch / self.epochs if self.epochs else 0.0

    @property
    def progress(self) -> str:
        """The finished epochs as ``3/60``, or what it does instead."""
        return self.doing or (f"{self.epoch}/{self.epochs}" if self.epochs else "starting")


class DisplayState:
    """The state of a sweep's jobs, updated by events.

    Args:
        labels: Of the jobs, by number.
        clock: Returns monotonic seconds.
        kept: How many of the last ended jobs ``latest`` returns.
    """

    def __init__(self, labels: Mapping[int, str], clock: Callable[[], float], kept: int = 6):
        self.labels = labels
        self.running: dict[int, ProgressRow] = {}
        self.packs: list[tuple[int, ...]] = []
        self.ends: list[Ended] = []
        self._requeue_lines: list[str] = []
        self._regrouped: dict[str, dict[int, tuple[int, ...]]] = {}  # reason -> each job and its group
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

    def on_event(self, event: Event) -> None:
        """Update the state by an event."""
        if isinstance(event, Started):
            self.running[event.job] = ProgressRow(self.labels[event.job], 0, 0, {})
        elif isinstance(event, EpochEnded):
            label = self.labels[event.job]
            self.running[event.job] = ProgressRow(label, event.epoch, event.epochs, event.metrics, event.doing)
        elif isinstance(event, Packed):
            self.packs.append(event.jobs)
        elif isinstance(event, Regrouped):
            self._regroup(event)
        elif isinstance(event, Requeued):
            self._take_back(event.jobs)
            self._requeue_lines.append(event.reason)
        else:
            self.running.pop(event.job, None)
            self.ends.append(event)

    def _regroup(self, event: Regrouped) -> None:
        groups = {job: group for group in event.groups for job in group}
        self._take_back(groups)
        self._regrouped.setdefault(event.reason, {}).update(groups)

    def _take_back(self, jobs: Collection[int]) -> None:
        for job in jobs:
            self.running.pop(job, None)
        self.packs = [pack for pack in self.packs if not set(jobs) & set(pack)]

    def rows(self) -> list[ProgressRow]:
        """Return a row for each pack and for each job that runs alone."""
        packs = [[job for job in pack if job in self.running] for pack in self.packs]
        packs = [pack for pack in packs if len(pack) > 1]
        packed = {job for pack in packs for job in pack}
        return [
            *(pack_row([self.running[job] for job in pack]) for pack in packs),
            *(row for job, row in self.running.items() if job not in packed),
        ]

    def pending_lines(self, flush: bool = False) -> list[str]:
        """Return, once, a line for each requeued group, and for each reason why packs were split.

        The latter come when no pack is only starting, so that jobs with the same reason share a
        line.

        Args:
            flush: Return all lines now.
        """
        requeued, self._requeue_lines = self._requeue_lines, []
        started = [self.running[job].epoch > 0 for pack in self.packs for job in pack if job in self.running]
        if not (flush or all(started)):
            return requeued
        by_reason, self._regrouped = self._regrouped, {}
        return [
            *requeued,
            *(separation_line(reason, list(Counter(groups.values()).values())) for reason, groups in by_reason.items()),
        ]

    def elapsed(self) -> float:
        """Return the seconds since the sweep began."""
        return self._clock() - self._begin

    def left(self) -> float:
        """Return the estimated seconds left, at the average pace; NaN before any progress."""
        done = len(self.ends) + sum(row.fraction for row in self.running.values())
        return self.elapsed() * (self.total - done) / done if done > 0 else math.nan


def clock_text(seconds: float) -> str:
    """Return seconds as ``m:ss`` or ``h:mm:ss``; ``-:--`` where unknown."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def figure(metrics: Mapping[str, float], key: str) -> str:
    """Return a metric for a table cell, under its own name or ``final/``; empty if missing."""
    value = metrics.get(key, metrics.get(f"final/{key}"))
    return "" if value is None else f"{value:.4g}"


def pack_row(rows: Sequence[ProgressRow]) -> ProgressRow:
    """Return one row for the members of a pack: epochs of the slowest, metrics of the best."""
    slowest = min(rows, key=lambda row: row.fraction)
    best = min(rows, key=lambda row: _nan_last(row.metrics.get("val/loss", math.inf)))
    label = pack_label([row.label for row in rows])
    return ProgressRow(label, slowest.epoch, slowest.epochs, best.metrics, slowest.doing)


def pack_label(labels: Sequence[str]) -> str:
    """Return what members' labels share, how many they are, and the range of what differs.

    ``l1 strength=0.001 seed=0`` and ``l1 strength=0.01 seed=0`` give ``l1 seed=0 x 2: strength
    0.001 ... 0.01``.
    """
    labels_parts = [label.split() for label in labels]
    shared = [part for part in labels_parts[0] if all(part in other for other in labels_parts)]
    ranges = [
        f"{key} {_range(values)}"
        for key, values in _varying_values(labels_parts, shared).items()
        if len(values) == len(labels)
    ]
    head = " ".join([*shared, f"x {len(labels)}"] if shared else [f"{len(labels)} jobs"])
    return f"{head}: {', '.join(ranges)}" if ranges else head


def _varying_values(labels_parts: Sequence[Sequence[str]], shared: Sequence[str]) -> dict[str, list[str]]:
    values_by_key: dict[str, list[str]] = {}
    for parts in labels_parts:
        for part in parts:
            key, equals, value = part.partition("=")
            if equals and part not in shared:
                values_by_key.setdefault(key, []).append(value)
    return values_by_key


def _range(values: Sequence[str]) -> str:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return ", ".join(dict.fromkeys(values))
    return f"{compact(min(numbers))} ... {compact(max(numbers))}"


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
