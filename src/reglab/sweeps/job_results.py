"""How the jobs of a sweep ended, for any Hydra launcher; text about failed jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hydra.core.utils import JobReturn, JobStatus

from reglab.launchers.events import Ended, end_from_result
from reglab.launchers.job_returns import JobFailed
from reglab.launchers.resumable_jobs import sweep_number
from reglab.sweeps.blocks import Job


def ends(jobs: Sequence[Job], returns: Sequence[JobReturn]) -> dict[int, Ended]:
    """Return how each job ended, by its number in the sweep, as far as the launcher reports it.

    A launcher numbers what it was given, which may be a part of the sweep: the overrides tell the
    job's number. Without that, returns come in the order of the jobs.

    Args:
        jobs: That the launcher was given.
        returns: What it returned.
    """
    ends_by_job: dict[int, Ended] = {}
    for job, returned in zip(jobs, returns, strict=False):
        number_told = sweep_number(returned.overrides or ())
        number = job.number if number_told is None else number_told
        value = returned._return_value  # the property prints and raises where the job failed
        if isinstance(value, JobFailed):
            ends_by_job[number] = replace(value.end, job=number)
        elif isinstance(value, Ended):
            ends_by_job[number] = replace(value, job=number)
        elif returned.status == JobStatus.FAILED:
            ends_by_job[number] = Ended(number, "FAILED", str(value) or type(value).__name__)
        elif returned.status == JobStatus.COMPLETED:
            ends_by_job[number] = end_from_result(number, value)
    return ends_by_job


def failures(ends_by_job: Mapping[int, Ended], labels: Mapping[int, str]) -> str:
    """Return the failed jobs with their reasons as text; empty if none failed.

    Args:
        ends_by_job: How each job ended.
        labels: Of all jobs, by number.
    """
    reasons: dict[str, list[int]] = {}
    for number, end in sorted(ends_by_job.items()):
        if end.status == "FAILED":
            reasons.setdefault(end.message or "no reason given", []).append(number)
    if not reasons:
        return ""
    lines = [f"{sum(map(len, reasons.values()))} of {len(labels)} jobs failed:"]
    for reason, numbers in reasons.items():
        first = labels[numbers[0]]
        others = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
        lines.append(f"  {first}{others}: {reason}")
    return "\n".join(lines)
