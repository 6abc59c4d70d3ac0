"""Handle of a worker process in its pool: group, open jobs, deadline."""

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
    open_jobs: list[int] = field(default_factory=list)  # jobs of the group that have not ended
    killed: dict[int, Ended] = field(default_factory=dict)  # of these, those that were interrupted
    already_ended: set[int] = field(default_factory=set)  # of these, ended by their journals at the start
    exiting: bool = False  # it was asked to exit, and gets no more groups
    exceeded: LimitExceeded | None = None  # the limit for which it is ended
    deadline: float | None = None  # when it is killed
    pipe_closed: bool = False  # the process is exiting
