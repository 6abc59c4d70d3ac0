"""Why a worker process ended, in words, and what a sweep allows its jobs."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from reglab.core.errors import UserError
from reglab.launchers.events import Ended

OUT_OF_MEMORY = "its worker process was killed (SIGKILL), most often by the system because memory ran out"
KILLED = "its worker process was killed (SIGKILL)"
ASKED_TO_END = "its worker process was asked to end"
SIGKILL = 9  # Windows has no such name
_SIGNAL_EXIT_OFFSET = 128  # exit codes above it tell of a signal, as shells have it
_GIGA = 1e9


@dataclass(frozen=True)
class ConfigRefused(Ended):
    """A job ended before it trained, since its configuration cannot be trained."""


@dataclass(frozen=True)
class LimitExceeded:
    """A limit that an order went beyond. heavy: it is of memory, so that the order is killed, and a pack halved."""

    reason: str
    over_memory: bool


@dataclass(frozen=True)
class Limits:
    """What a process may take for an order. timeout: minutes; memory: GB of it and of its children; None: any."""

    timeout: float | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        for name, unit in (("timeout", "minutes"), ("memory", "GB")):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"hydra.launcher.{name} must be null or {unit} above 0, got {value}")

    def exceeded(self, pid: int, seconds: float) -> LimitExceeded | None:
        """Return the limit that the process ``pid``, which began so many ``seconds`` ago, is beyond, if it is."""
        if self.timeout is not None and seconds > 60 * self.timeout:
            reason = f"took longer than {self.timeout:g} minutes (hydra.launcher.timeout); to go on: give the same "
            return LimitExceeded(f"{reason}command again with more time", over_memory=False)
        if self.memory is not None and (used := sum(_resident_bytes(pid)) / _GIGA) > self.memory:
            reason = f"took {used:.3g} GB of memory, more than {self.memory:g} (hydra.launcher.memory)"
            return LimitExceeded(f"{reason}: give it more, or lower data.batch_size", over_memory=True)
        return None


def _resident_bytes(pid: int) -> Iterator[int]:
    """Yield the bytes of memory that a process and each of its descendants hold; what they share counts for each."""
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                yield int(each.memory_info().rss)


def was_terminated(code: int | None) -> bool:
    """Tell whether a process that ended with this exit code was asked to, before it could say so."""
    return code in (0, -signal.SIGTERM, _SIGNAL_EXIT_OFFSET + signal.SIGTERM)


def exit_cause(code: int | None) -> str:
    """Return in words why a worker process ended with this exit code in the middle of a job."""
    number = -code if code is not None and code < 0 else (code or 0) - _SIGNAL_EXIT_OFFSET
    name = {each.value: each.name for each in signal.Signals}.get(number, f"signal {number}")
    if code is None or (code >= 0 and name.startswith("signal")):
        return f"its worker process ended with exit code {code}; look above for what it printed"
    if name == "SIGKILL":
        return f"{OUT_OF_MEMORY}: lower hydra.launcher.workers or data.batch_size"
    return (
        f"its worker process died of {name}" if code < 0 else f"its worker process ended with exit code {code} ({name})"
    )
