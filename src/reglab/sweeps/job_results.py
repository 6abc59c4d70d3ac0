"""Run jobs by any Hydra launcher and tell how each ended; text about failed jobs."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from reglab.config.job_request import JobRequest, decode, encode
from reglab.launchers.compose import Composer
from reglab.launchers.events import Ended, end_from_result
from reglab.launchers.job_returns import JobFailed
from reglab.launchers.request_launcher import RequestLauncher, capabilities_of


def launch(requests: Sequence[JobRequest], composer: Composer, launcher: Launcher) -> Mapping[int, Ended]:
    """Run jobs by any launcher, and return how each ended, by number, as far as it tells.

    Args:
        requests: Of the jobs.
        composer: Of the sweep.
        launcher: One of Hydra's own gets overrides and numbers the jobs from 0.
    """
    if not capabilities_of(launcher).shows_progress:
        name = OmegaConf.select(composer.master, "hydra.runtime.choices.hydra/launcher")
        print(
            f"running {len(requests)} jobs by hydra/launcher={name}; to watch them: reglab dashboard", file=sys.stderr
        )
    if isinstance(launcher, RequestLauncher):
        return launcher.run(requests, composer)
    subdir = str(composer.master.hydra.sweep._get_node("subdir")._value())
    overrides = [encode(request, position, subdir) for position, request in enumerate(requests)]
    return ends(requests, launcher.launch(overrides, initial_job_idx=0))


def ends(requests: Sequence[JobRequest], returns: Sequence[JobReturn]) -> dict[int, Ended]:
    """Return how each job ended, by number, as far as a launcher of Hydra's own reports it.

    Such a launcher may leave jobs out: the overrides tell the job. Without them, returns come in
    the order of the jobs.

    Args:
        requests: Of the jobs that the launcher was given.
        returns: What it returned.
    """
    ends_by_job: dict[int, Ended] = {}
    for request, returned in zip(requests, returns, strict=False):
        number = decode(returned.overrides or (), request.number).number
        value = returned._return_value  # the property prints and raises where the job failed
        end = value.end if isinstance(value, JobFailed) else value
        if isinstance(end, Ended):
            ends_by_job[number] = replace(end, job=number)
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
