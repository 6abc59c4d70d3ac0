"""From a launcher's returns to how each job of the sweep ended."""

from hydra.core.utils import JobReturn, JobStatus

from reglab.config.job_request import JobRequest, encode
from reglab.launchers.events import Ended
from reglab.launchers.job_returns import job_return
from reglab.sweeps.job_results import ends

REQUESTS = [JobRequest(number, (f"seed={number}",), "p", "l1") for number in (3, 5, 8)]


def test_a_launcher_that_got_a_part_of_the_sweep_counts_from_0_and_may_leave_some_out():
    _, second, third = [encode(request, position, "job") for position, request in enumerate(REQUESTS)]
    returns = [job_return(second, Ended(1, "FAILED", "a bug")), job_return(third, Ended(2, "FINISHED"))]
    assert ends(REQUESTS, returns) == {5: Ended(5, "FAILED", "a bug"), 8: Ended(8, "FINISHED")}


def test_returns_without_overrides_come_in_the_order_of_the_jobs():
    done, failed = JobReturn(), JobReturn(status=JobStatus.FAILED)
    done.status, done.return_value, failed.return_value = JobStatus.COMPLETED, None, ValueError("x")
    assert ends(REQUESTS, [done, failed]) == {3: Ended(3, "FINISHED"), 5: Ended(5, "FAILED", "x")}
