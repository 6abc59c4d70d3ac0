"""``JobReturn`` values for Hydra's sweepers, and the exceptions of failed jobs and interrupts."""

import signal
from collections.abc import Mapping, Sequence

from hydra.core.utils import JobReturn, JobStatus

from reglab.core import signals
from reglab.launchers.events import Ended


class JobFailed(Exception):  # noqa: N818 - it names what happened to the job
    """A job of a sweep failed or was killed; ``end`` tells how."""

    def __init__(self, end: Ended):
        super().__init__(end.message)
        self.end = end


class Interrupted(signals.Interrupted):
    """The sweep was interrupted.

    Args:
        ends: Of the jobs that had ended, by number.
        number: Of the signal.
    """

    def __init__(self, ends: Mapping[int, Ended], number: int = signal.SIGINT):
        super().__init__(number)
        self.ends = ends


def job_return(overrides: Sequence[str], end: Ended) -> JobReturn:
    """Return a ``JobReturn`` as Hydra's sweepers expect it from a launcher."""
    returned = JobReturn(overrides=list(overrides))
    finished = end.status == "FINISHED"
    returned.status = JobStatus.COMPLETED if finished else JobStatus.FAILED
    returned.return_value = end if finished else JobFailed(end)
    return returned
