"""Run a sweep: expand, check, open the parent run, launch unfinished jobs, report."""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from reglab.analysis.rules import DEFAULT, check_rule
from reglab.config.error_messages import group_options
from reglab.config.job_request import JobRequest, WarmStart
from reglab.core import signals
from reglab.core.errors import UserError
from reglab.launchers.compose import Composer, located
from reglab.launchers.events import Ended
from reglab.launchers.job_labels import job_labels
from reglab.launchers.job_returns import Interrupted
from reglab.launchers.request_launcher import capabilities_of
from reglab.sweeps.blocks import Job, expand
from reglab.sweeps.data_check import check_data
from reglab.sweeps.dry_run import dry_run
from reglab.sweeps.job_results import failures, launch
from reglab.sweeps.ledger import send_unsent
from reglab.sweeps.parent import OpenSweep, ignores_earlier, open_or_resume
from reglab.sweeps.path import Link, links
from reglab.sweeps.preflight import check_configs
from reglab.sweeps.register import registered_name
from reglab.tracking import TrackingSettings
from reglab.tracking.folder import shell_path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        parent_id: Its run in MLflow.
        jobs: How many it has.
        finished: How many finished.
        failures: Which jobs failed and why, as text.
        delivered: Whether MLflow has all of its runs.
    """

    parent_id: str
    jobs: int
    finished: int
    failures: str
    delivered: bool = True

    @property
    def complete(self) -> bool:
        """Whether every job finished, and MLflow has all runs."""
        return self.finished == self.jobs and self.delivered


def run_sweep(
    arguments: Sequence[str], config: DictConfig, loader: ConfigLoader, launcher: Launcher, resume: Path | None = None
) -> SweepResult | None:
    """Run the sweep that the command line and ``config.sweep`` describe, or what is left of it.

    Args:
        arguments: The command line's overrides.
        config: Of the whole sweep, with Hydra's node.
        loader: Hydra's.
        launcher: The configured one.
        resume: The folder of the sweep that it must turn out to be.

    Returns:
        None with ``sweep.dry``, which only prints the plan.

    Raises:
        UserError: A job cannot be composed; nothing was started.
        KeyboardInterrupt: The sweep was interrupted.
    """
    settings = TrackingSettings.from_config(config.tracking)
    registered_name(config.sweep, settings.backend)
    jobs = expand_jobs(arguments, config, loader)
    composer, can = Composer(loader, config), capabilities_of(launcher)
    check_configs(jobs, composer, config, group_options(loader), can)
    links_by_job = links(jobs, composer, can)
    ready = partial(check_data, composer=composer, config=config)
    if config.sweep.get("dry"):
        ready(jobs)
        dry_run(requests_of(jobs, links_by_job), composer, config, can)
        return None
    with open_or_resume(jobs, arguments, composer, settings, can, links_by_job, ready, resume) as opened:
        requests = located_requests(jobs, opened, links_by_job, composer)
        ends_by_job = _launch(requests, len(jobs), opened, composer, launcher, settings.backend == "mlflow")
        result = _result(opened.parent.run_id, jobs, ends_by_job)
        try:
            if settings.backend == "mlflow":
                result = replace(result, delivered=send_unsent(opened.parent.folder, settings.uri))
                if not result.delivered:  # choose among all jobs only
                    print("give the same command again later, for the rest and the report", file=sys.stderr)
                elif result.finished:
                    from reglab.sweeps.finish import finish_sweep  # late: it imports torch

                    finish_sweep(config, opened.parent)
            elif settings.backend == "offline":
                sweep_folder = shell_path(opened.parent.folder)
                print(
                    f"to see it in MLflow: reglab sync {sweep_folder}, then reglab report {sweep_folder}",
                    file=sys.stderr,
                )
        finally:
            opened.parent.finish("FINISHED" if result.complete else "FAILED")
    return result


def _launch(
    requests: Sequence[JobRequest],
    jobs: int,
    opened: OpenSweep,
    composer: Composer,
    launcher: Launcher,
    recorded: bool,
) -> dict[int, Ended]:
    """Run the jobs that are not done, and return how all ended."""
    parent = opened.parent
    try:
        return {**launch(requests, composer, launcher), **opened.done} if requests else dict(opened.done)
    except KeyboardInterrupt as interrupt:
        parent.finish("KILLED")
        ends_by_job = {**(interrupt.ends if isinstance(interrupt, Interrupted) else {}), **opened.done}
        fresh = ignores_earlier(composer.master)
        message = interrupted_message(ends_by_job, jobs, parent.run_id if recorded else None, fresh)
        _log.warning("%s", message)
        if isinstance(interrupt, signals.Interrupted):
            interrupt.reported = True
        raise
    except BaseException:
        parent.finish("FAILED")
        raise


def expand_jobs(arguments: Sequence[str], config: DictConfig, loader: ConfigLoader | None = None) -> list[Job]:
    """Return the jobs of a sweep. Raises UserError for invalid blocks, seeds or rules."""
    sweep: Any = OmegaConf.to_container(config.sweep, resolve=True)
    blocks = sweep.get("blocks") or []
    if not isinstance(blocks, list):
        raise UserError(f"sweep.blocks must be a list of mappings, got {blocks!r}")
    check_rule(sweep.get("rule", DEFAULT))
    return expand(arguments, blocks, sweep.get("seeds"), list(config.get("regularizer") or {}), loader)


def requests_of(jobs: Sequence[Job], links_by_job: Mapping[int, Link], parent: str = "") -> list[JobRequest]:
    """Return what is asked of each job, as far as it is known before the folders are.

    Args:
        jobs: Of the sweep.
        links_by_job: Of the jobs of a path.
        parent: The sweep's run.
    """
    starts = {number: WarmStart(link.after, Path(), link.trail) for number, link in links_by_job.items()}
    return [JobRequest(job.number, job.overrides, parent, job.block, start=starts.get(job.number)) for job in jobs]


def located_requests(
    jobs: Sequence[Job], opened: OpenSweep, links_by_job: Mapping[int, Link], composer: Composer
) -> list[JobRequest]:
    """Return the requests of the jobs that a launcher gets, with their folders.

    Args:
        jobs: Of the sweep.
        opened: The open sweep.
        links_by_job: Of the jobs of a path.
        composer: Of the sweep.
    """
    request_of = {each.number: each for each in requests_of(jobs, links_by_job, opened.parent.run_id)}
    left = {job.number for job in opened.remaining(jobs)}
    before = {links_by_job[number].after for number in left if number in links_by_job}
    found = {number: located(composer, request_of[number]) for number in sorted(left | before)}
    return [
        replace(found[number], start=replace(start, folder=found[start.after].folder))
        if (start := found[number].start)
        else found[number]
        for number in sorted(left)
    ]


def _result(parent_id: str, jobs: Sequence[Job], ends_by_job: Mapping[int, Ended]) -> SweepResult:
    known_ends = {
        job.number: ends_by_job.get(job.number, Ended(job.number, "FAILED", "the launcher returned no result"))
        for job in jobs
    }
    labels = job_labels(requests_of(jobs, {}))
    finished = sum(end.status == "FINISHED" for end in known_ends.values())
    return SweepResult(parent_id, len(jobs), finished, failures(known_ends, labels))


def interrupted_message(ends_by_job: Mapping[int, Ended], jobs: int, parent_id: str | None, fresh: bool = False) -> str:
    """Return what is left of an interrupted sweep, and how to resume it.

    Args:
        ends_by_job: How jobs ended.
        jobs: How many the sweep has.
        parent_id: Its run; None where MLflow has nothing.
        fresh: Whether the command has ``sweep.again=true``, with which it would not resume.
    """
    finished = sum(end.status == "FINISHED" for end in ends_by_job.values())
    text = f"Interrupted: {finished or 'none'} of {jobs} jobs finished; what all of them recorded is kept."
    if parent_id is None:
        return f"{text} To run the whole sweep, give the same command again."
    if finished:
        text += f" Their report: reglab report {parent_id}."
    if fresh:
        return f"{text} To run the rest, give the same command again, without sweep.again=true."
    return f"{text} To run the rest, give the same command again, or: reglab resume {parent_id}"
