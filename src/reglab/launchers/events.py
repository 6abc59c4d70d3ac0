"""What a job says while it runs and when it ends. Plain values: the process that shows them imports no torch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Progress(Protocol):
    """Training's message after an epoch."""

    @property
    def epoch(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, Any]: ...


Reporter = Callable[[Progress], None]
_reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


@dataclass(frozen=True)
class Started:
    """A job was handed to a worker."""

    job: int


@dataclass(frozen=True)
class EpochEnded:
    """A job finished an epoch; ``epochs`` is how many it will have at most. doing: what it does instead of steps."""

    job: int
    epoch: int
    epochs: int
    metrics: Mapping[str, float]
    doing: str = ""


@dataclass(frozen=True)
class Ended:
    """A job ended.

    Attributes:
        job: Its number.
        status: How it ended.
        message: Why, where it failed or was killed.
        run_id: Its run in MLflow.
        metrics: The run's result.
        unrecorded: Whether its process ended without recording that in the run's journal.
    """

    job: int
    status: Status
    message: str = ""
    run_id: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    unrecorded: bool = False


@dataclass(frozen=True)
class Packed:
    """These jobs, just started, train fused in one process, as a pack."""

    jobs: tuple[int, ...]


@dataclass(frozen=True)
class Regrouped:
    """A pack's jobs go on in other groups, from the start. reason: one line."""

    groups: tuple[tuple[int, ...], ...]
    reason: str


@dataclass(frozen=True)
class Requeued:
    """These jobs lost their worker and go on in another, from their checkpoint where there is one. reason: one line."""

    jobs: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Idle:
    """A worker process has nothing left to do."""


Event = Started | Packed | EpochEnded | Ended | Regrouped | Requeued


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Send the progress of what trains inside this context to ``reporter``."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def reporter() -> Reporter | None:
    """Return who wants to hear of progress here; Hydra's task functions take nothing but a config."""
    return _reporter.get()


def end_from_result(job: int, result: object) -> Ended:
    """Return the end that a task's return value tells: a ``JobResult``, or anything else for plain success."""
    status: Any = getattr(result, "status", "FINISHED")
    metrics = getattr(result, "metrics", {})
    return Ended(
        job,
        status if status in ("FINISHED", "FAILED", "KILLED") else "FINISHED",
        str(getattr(result, "message", "") or ""),
        str(getattr(result, "run_id", "") or ""),
        numbers(metrics) if isinstance(metrics, Mapping) else {},
    )


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics as plain floats, which any process can read."""
    return {str(key): float(value) for key, value in metrics.items()}
