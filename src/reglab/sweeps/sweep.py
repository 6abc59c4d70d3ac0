"""Run a sweep: expand, check, open the parent run, launch unfinished jobs, report."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from reglab.analysis.rules import DEFAULT, check_rule
from reglab.core import signals
from reglab.core.errors import UserError
from reglab.launchers.compose import AFTER, JOB, Composer, composer_of, job_config, job_folder
from reglab.launchers.events import Ended
from reglab.launchers.job_labels import job_labels
from reglab.launchers.job_returns import Interrupted
from reglab.sweeps.blocks import Job, expand
from reglab.sweeps.data_check import check_data
from reglab.sweeps.dry_run import dry_run
from reglab.sweeps.job_results import ends, failures
from reglab.sweeps.ledger import send_unsent
from reglab.sweeps.parent import OpenSweep, ignores_earlier, open_or_resume
from reglab.sweeps.path import Link, links
from reglab.sweeps.preflight import check_configs
from reglab.tracking import TrackingSettings

_log = logging.getLogger(__name__)

Launch = Callable[[Sequence[Sequence[str]]], Sequence[JobReturn]]


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


def run_sweep(arguments: Sequence[str], config: DictConfig, loader: ConfigLoader, launch: Launch) -> SweepResult | None:
    """Run the sweep that the command line and ``config.sweep`` describe, or what is left of it.

    Args:
        arguments: The command line's overrides.
        config: Of the whole sweep, with Hydra's node.
        loader: Hydra's.
        launch: The configured launcher: from job overrides to returns.

    Returns:
        None with ``sweep.dry``, which only prints the plan.

    Raises:
        UserError: A job cannot be composed; nothing was started.
        KeyboardInterrupt: The sweep was interrupted.
    """
    jobs = expand_jobs(arguments, config)
    composer = composer_of(loader, config)
    check_configs(jobs, composer, config, group_options(loader))
    links_by_job = links(jobs, composer)
    ready = partial(check_data, composer=composer, config=config)
    if config.sweep.get("dry"):
        ready(jobs)
        dry_run(_with_dependencies(jobs, links_by_job), composer, config)
        return None
    settings = TrackingSettings.from_config(config.tracking)
    with open_or_resume(jobs, arguments, config, composer, settings, ready) as opened:
        overrides = all_overrides(jobs, opened, links_by_job, composer)
        ends_by_job = _launch(jobs, opened, overrides, config, launch, settings.backend == "mlflow")
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
                sweep_folder = opened.parent.folder
                print(
                    f"to see it in MLflow: reglab sync {sweep_folder}, then reglab report {sweep_folder}",
                    file=sys.stderr,
                )
        finally:
            opened.parent.finish("FINISHED" if result.complete else "FAILED")
    return result


def _launch(
    jobs: Sequence[Job],
    opened: OpenSweep,
    overrides: Mapping[int, list[str]],
    config: DictConfig,
    launch: Launch,
    recorded: bool,
) -> dict[int, Ended]:
    """Run the jobs that are not done, and return how all ended."""
    parent, open_jobs = opened.parent, opened.remaining(jobs)
    launcher = OmegaConf.select(config, "hydra.runtime.choices.hydra/launcher")
    if open_jobs and launcher not in ("fused", "local", "process"):  # ours show a table
        print(
            f"running {len(open_jobs)} jobs by hydra/launcher={launcher}; to watch them: reglab dashboard",
            file=sys.stderr,
        )
    try:
        returns = launch([overrides[job.number] for job in open_jobs]) if open_jobs else []
        return {**ends(open_jobs, returns), **opened.done}
    except KeyboardInterrupt as interrupt:
        parent.finish("KILLED")
        returns = interrupt.returns if isinstance(interrupt, Interrupted) else []
        ends_by_job = {**ends(open_jobs, returns), **opened.done}
        message = interrupted_message(
            ends_by_job, len(jobs), parent.run_id if recorded else None, ignores_earlier(config)
        )
        _log.warning("%s", message)
        if isinstance(interrupt, signals.Interrupted):
            interrupt.reported = True
        raise
    except BaseException:
        parent.finish("FAILED")
        raise


def expand_jobs(arguments: Sequence[str], config: DictConfig) -> list[Job]:
    """Return the jobs of a sweep. Raises UserError for invalid blocks, seeds or rules."""
    sweep: Any = OmegaConf.to_container(config.sweep, resolve=True)
    blocks = sweep.get("blocks") or []
    if not isinstance(blocks, list):
        raise UserError(f"sweep.blocks must be a list of mappings, got {blocks!r}")
    check_rule(sweep.get("rule", DEFAULT))
    return expand(arguments, blocks, sweep.get("seeds"), list(config.get("regularizer") or {}))


def all_overrides(
    jobs: Sequence[Job], opened: OpenSweep, links_by_job: Mapping[int, Link], composer: Composer
) -> dict[int, list[str]]:
    """Return what a launcher gets for each job: its overrides, its parent run, block and start.

    Args:
        jobs: Of the sweep.
        opened: The open sweep.
        links_by_job: Of the jobs of a path.
        composer: Of the sweep.
    """
    parent = opened.parent.run_id
    parent_override = f"sweep.parent={parent}"
    overrides = {
        job.number: [*job.overrides, parent_override, f"sweep.block={_quoted(job.block)}", f"{JOB}{job.number}"]
        for job in jobs
    }
    open_numbers = [job.number for job in opened.remaining(jobs)]
    folders: dict[int, Path] = {}
    for number in {links_by_job[job].after for job in open_numbers if job in links_by_job}:
        # Launchers number the jobs that they get.
        launch_number = open_numbers.index(number) if number in open_numbers else number
        folders[number] = job_folder(job_config(composer, launch_number, overrides[number], lean=True))
    for number in open_numbers:
        if link := links_by_job.get(number):
            overrides[number] += [
                f"{AFTER}{link.after}",
                f"sweep.start={_quoted(str(folders[link.after]))}",
                f"sweep.trail={_quoted(link.trail)}",
            ]
    return {number: overrides[number] for number in open_numbers}


def _with_dependencies(jobs: Sequence[Job], links_by_job: Mapping[int, Link]) -> Sequence[Job]:
    """Return the jobs with overrides that name the job each one waits for."""
    if not links_by_job:
        return jobs
    dependency_of = {number: (f"{AFTER}{link.after}",) for number, link in links_by_job.items()}
    return [
        replace(job, overrides=(*job.overrides, f"{JOB}{job.number}", *dependency_of.get(job.number, ())))
        for job in jobs
    ]


def _quoted(text: str) -> str:
    return str(QuotedString(text, Quote.single).with_quotes())


def group_options(loader: ConfigLoader, parent: str = "") -> dict[str, list[str]]:
    """Return the options of every config group that Hydra knows."""
    options: dict[str, list[str]] = {}
    for name in loader.list_groups(parent):
        group = f"{parent}/{name}" if parent else name
        options[group] = [option for option in loader.get_group_options(group) if not option.startswith("_")]
        options |= group_options(loader, group)
    return options


def _result(parent_id: str, jobs: Sequence[Job], ends_by_job: Mapping[int, Ended]) -> SweepResult:
    known_ends = {
        job.number: ends_by_job.get(job.number, Ended(job.number, "FAILED", "the launcher returned no result"))
        for job in jobs
    }
    labels = job_labels({job.number: [f"sweep.block={job.block}", *job.overrides] for job in jobs})
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
