"""Exit causes of worker processes, from exit codes and signals; time and memory limits."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from reglab.core import signals
from reglab.core.errors import UserError
from reglab.launchers.events import Ended

OUT_OF_MEMORY = "its worker process was killed (SIGKILL), most often by the system because memory ran out"
KILLED = "its worker process was killed (SIGKILL)"
ASKED_TO_END = "its worker process was asked to end"
NOT_STARTED = "its worker process could not be started"
SIGKILL = 9  # Windows has no such name
_SIGNAL_EXIT_OFFSET = 128  # shells add it to the number of the signal that ended a process
_GIGA = 1e9


@dataclass(frozen=True)
class ConfigRefused(Ended):
    """A job failed before training because its configuration cannot be trained."""


@dataclass(frozen=True)
class LimitExceeded:
    """A limit that a group of jobs exceeded.

    Attributes:
        reason: The message for the user.
        over_memory: Whether it is the memory limit: the process is killed, and a pack halved.
    """

    reason: str
    over_memory: bool


@dataclass(frozen=True)
class Limits:
    """Limits of a worker process.

    Attributes:
        timeout: Minutes for a group of jobs; None for no limit.
        memory: GB of the process and its descendants; None for no limit.

    Raises:
        UserError: A limit is not above 0.
    """

    timeout: float | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        for name, unit in (("timeout", "minutes"), ("memory", "GB")):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"hydra.launcher.{name} must be null or {unit} above 0, got {value}")

    def exceeded(self, pid: int, seconds: float) -> LimitExceeded | None:
        """Return the limit that a process exceeds; None if it exceeds none.

        Args:
            pid: Of the process.
            seconds: Since it started.
        """
        if self.timeout is not None and seconds > 60 * self.timeout:
            reason = f"took longer than {self.timeout:g} minutes (hydra.launcher.timeout); to resume, give the "
            return LimitExceeded(f"{reason}same command again with a longer timeout", over_memory=False)
        if self.memory is not None and (used := sum(_resident_bytes(pid)) / _GIGA) > self.memory:
            reason = f"took {used:.3g} GB of memory, more than {self.memory:g} (hydra.launcher.memory)"
            return LimitExceeded(f"{reason}: give it more, or lower data.batch_size", over_memory=True)
        return None


def _resident_bytes(pid: int) -> Iterator[int]:
    """Yield the resident memory of a process and each descendant; shared memory counts for each."""
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                yield int(each.memory_info().rss)


def was_terminated(code: int | None) -> bool:
    """Tell whether the exit code means that a signal asked the process to end, such as SIGTERM.

    0 is none: a worker ends with it behind its last job only.
    """
    return code is not None and (-code in signals.HANDLED or code - _SIGNAL_EXIT_OFFSET in signals.HANDLED)


def exit_cause(code: int | None, last_lines: str = "") -> str:
    """Return, for the user, why a worker process ended with this exit code during a job.

    Args:
        code: The exit code, below 0 for a signal.
        last_lines: What it wrote last on its standard error.
    """
    return f"{_cause(code)}; its last lines: {last_lines}" if last_lines else _cause(code)


def _cause(code: int | None) -> str:
    number = -code if code is not None and code < 0 else (code or 0) - _SIGNAL_EXIT_OFFSET
    name = {each.value: each.name for each in signal.Signals}.get(number, f"signal {number}")
    if code is None or (code >= 0 and name.startswith("signal")):
        return f"its worker process ended with exit code {code}"
    if name == "SIGKILL":
        return f"{OUT_OF_MEMORY}: lower hydra.launcher.workers or data.batch_size"
    return (
        f"its worker process died of {name}" if code < 0 else f"its worker process ended with exit code {code} ({name})"
    )
