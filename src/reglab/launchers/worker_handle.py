"""Handle of a worker process in its pool: group, open jobs, deadline; signals to it."""

import contextlib
import os
import signal
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from reglab.launchers.compose import JobGroup
from reglab.launchers.events import Ended
from reglab.launchers.exit_causes import LimitExceeded, Limits


@dataclass(frozen=True)
class PoolRules:
    """How a pool treats its workers.

    Attributes:
        one_shot: Each worker runs one group, and ends before another takes its slot.
        retries: How often a job resumes after its worker was killed or terminated; None for as long
            as it makes progress.
        stop_on_refusal: Start no more groups after a job's configuration was refused.
        limits: Of time and memory.
    """

    one_shot: bool = False
    retries: int | None = None
    stop_on_refusal: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass
class Worker:
    process: BaseProcess
    pipe: Connection
    index: int
    started_at: float  # by the monotonic clock
    group: JobGroup | None = None
    open_jobs: list[int] = field(default_factory=list)  # jobs of the order that have not ended
    killed: dict[int, Ended] = field(default_factory=dict)  # of these, the ones that it was asked to end
    already_ended: set[int] = field(
        default_factory=set
    )  # of these, the ones whose record told of an end before they began
    exiting: bool = False  # it was asked to end itself, and takes no more orders
    exceeded: LimitExceeded | None = None  # what it is ended for
    deadline: float | None = None  # when it is killed
    pipe_closed: bool = False  # it has closed its pipe, and is about to end


def kill_group(process: BaseProcess) -> None:
    """Kill a worker's process group."""
    if process.pid is not None and hasattr(os, "killpg"):
        with contextlib.suppress(OSError):  # nobody is left in it, or it is not made yet
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def send_signal(process: BaseProcess, number: signal.Signals) -> None:
    """Send a signal to a worker process, if it is alive."""
    if process.pid is None or not process.is_alive():
        return
    if os.name == "nt":
        process.terminate()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
