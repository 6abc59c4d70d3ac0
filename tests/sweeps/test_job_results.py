"""From a launcher's returns to how each job of the sweep ended."""

from hydra.core.utils import JobReturn, JobStatus

from reglab.launchers.events import Ended
from reglab.launchers.job_returns import job_return
from reglab.sweeps.blocks import Job
from reglab.sweeps.job_results import ends

JOBS = [Job(number, "", ()) for number in (3, 5, 8)]


def test_a_launcher_that_got_a_part_of_the_sweep_counts_from_0_and_may_leave_some_out():
    returns = [
        job_return(["seed=1", "sweep.job=5"], Ended(1, "FAILED", "a bug")),
        job_return(["sweep.job=8"], Ended(2, "FINISHED")),
    ]
    assert ends(JOBS, returns) == {5: Ended(5, "FAILED", "a bug"), 8: Ended(8, "FINISHED")}


def test_returns_without_overrides_come_in_the_order_of_the_jobs():
    done, failed = JobReturn(), JobReturn(status=JobStatus.FAILED)
    done.status, done.return_value, failed.return_value = JobStatus.COMPLETED, None, ValueError("x")
    assert ends(JOBS, [done, failed]) == {3: Ended(3, "FINISHED"), 5: Ended(5, "FAILED", "x")}
