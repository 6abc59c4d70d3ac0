"""Handle of a worker process in its pool: group, open jobs, deadline."""

from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from reglab.launchers.compose import JobGroup
from reglab.launchers.events import Ended
from reglab.launchers.exit_causes import LimitExceeded, Limits, exit_cause, was_terminated
from reglab.launchers.worker_stderr import WorkerStderr
from reglab.processes.fork_server import server_died


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


class Spawned(NamedTuple):
    """A process that was started.

    Attributes:
        process: The process.
        pipe: Our end of its pipe.
        stderr: Its standard error, where that is kept.
        server: The process id of the fork server that it comes from.
    """

    process: BaseProcess
    pipe: Connection
    stderr: WorkerStderr | None = None
    server: int | None = None


@dataclass
class Worker:
    process: BaseProcess
    pipe: Connection
    stderr: WorkerStderr | None
    server: int | None
    index: int
    started_at: float  # by the monotonic clock
    group: JobGroup | None = None
    open_jobs: list[int] = field(default_factory=list)  # jobs of the group that have not ended
    killed: dict[int, Ended] = field(default_factory=dict)  # of these, those that were interrupted
    already_ended: set[int] = field(default_factory=set)  # of these, ended by their journals at the start
    exiting: bool = False  # it was asked to exit, and gets no more groups
    exceeded: LimitExceeded | None = None  # the limit for which it is ended
    deadline: float | None = None  # when it is killed
    pipe_closed: bool = False  # the process is exiting

    def begin(self, group: JobGroup, open_jobs: list[int]) -> None:
        """Take a group."""
        self.group, self.open_jobs = group, open_jobs
        if self.stderr is not None:
            self.stderr.begin()

    def show_stderr(self) -> None:
        """Show what it wrote on its standard error."""
        if self.stderr is not None:
            self.stderr.forward()

    def cause_of_death(self) -> str:
        """Return why its process ended, with what it wrote last."""
        self.show_stderr()
        return exit_cause(self.process.exitcode, self.stderr.last_lines() if self.stderr else "")

    @property
    def was_asked_to_end(self) -> bool:
        """Whether its end is not its job's fault: a signal asked for it, or the fork server died."""
        code = self.process.exitcode
        return bool(self.killed) or was_terminated(code) or server_died(self.server, code)

    def close(self) -> None:
        """Give back what its process leaves."""
        self.pipe.close()
        if self.stderr is not None:
            self.stderr.close()
