"""A worker process as its pool sees it, and what the pool makes of it."""

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
    """What a pool makes of its workers. once: each runs one order, and ends before another takes its place.

    retries: how often a job goes on whose worker was killed or asked to end; None: as long as it gets further. strict:
    where a job's configuration is refused, no more orders are begun.
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
    """Kill a worker, and what is left of the process group that it made its own."""
    if process.pid is not None and hasattr(os, "killpg"):
        with contextlib.suppress(OSError):  # nobody is left in it, or it is not made yet
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def send_signal(process: BaseProcess, number: signal.Signals) -> None:
    """Ask a worker to end, by a signal."""
    if process.pid is None or not process.is_alive():
        return
    if os.name == "nt":
        process.terminate()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
