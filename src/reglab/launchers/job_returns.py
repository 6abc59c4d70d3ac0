"""What a launcher hands back to Hydra's sweeper for each job."""

import signal
from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus

from reglab.core import signals
from reglab.launchers.events import Ended


class JobFailed(Exception):  # noqa: N818 - what it says is what happened to the job
    """A job of a sweep failed or was killed; ``end`` says how."""

    def __init__(self, end: Ended):
        super().__init__(end.message)
        self.end = end


class Interrupted(signals.Interrupted):
    """The sweep was interrupted by the signal ``number``. returns: those of the jobs that ended by then."""

    def __init__(self, returns: Sequence[JobReturn], number: int = signal.SIGINT):
        super().__init__(number)
        self.returns = returns


def job_return(overrides: Sequence[str], end: Ended) -> JobReturn:
    """Return what Hydra's sweepers expect of a launcher for a job that ended so."""
    returned = JobReturn(overrides=list(overrides))
    finished = end.status == "FINISHED"
    returned.status = JobStatus.COMPLETED if finished else JobStatus.FAILED
    returned.return_value = end if finished else JobFailed(end)
    return returned
