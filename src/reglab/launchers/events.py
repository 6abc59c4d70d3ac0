"""Events of a job: started, epoch ended, ended, packed, regrouped, requeued. No torch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Progress(Protocol):
    """What training reports after an epoch."""

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
    """A job was assigned to a worker process."""

    job: int


@dataclass(frozen=True)
class EpochEnded:
    """A job finished an epoch.

    Attributes:
        job: Its number.
        epoch: How many epochs are finished.
        epochs: How many it trains at most.
        metrics: The latest.
        doing: What it does at the moment instead of training steps, such as compiling.
    """

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
    """These jobs, just started, train fused in one process."""

    jobs: tuple[int, ...]


@dataclass(frozen=True)
class Regrouped:
    """A pack is split: its jobs train from the start in other groups.

    Attributes:
        groups: The job numbers of each new group.
        reason: Why, in one line.
    """

    groups: tuple[tuple[int, ...], ...]
    reason: str


@dataclass(frozen=True)
class Requeued:
    """These jobs lost their worker and resume in another, from their checkpoint if there is one.

    Attributes:
        jobs: Their numbers.
        reason: Why, in one line.
    """

    jobs: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Idle:
    """A worker process has finished its group."""


Event = Started | Packed | EpochEnded | Ended | Regrouped | Requeued


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Send the progress of what trains inside the context to ``reporter``."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def reporter() -> Reporter | None:
    """Return the progress callback of this context: Hydra's task functions take only a config."""
    return _reporter.get()


def end_from_result(job: int, result: object) -> Ended:
    """Return how a job ended, from what its task function returned.

    Args:
        job: Its number.
        result: A ``JobResult``; anything else means success.
    """
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
    """Return the metrics as plain floats, which a process without torch can unpickle."""
    return {str(key): float(value) for key, value in metrics.items()}
