"""Check a sweep's data before any job starts: each distinct data set is loaded once."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from omegaconf import DictConfig

from reglab.analysis.table_report import TableReport
from reglab.config.trust import trust, trusted_packages
from reglab.core import secrets
from reglab.core.errors import UserError
from reglab.launchers import task as tasks
from reglab.launchers.compose import Composer
from reglab.launchers.local import start_server, worker_environment
from reglab.launchers.worker import limit_threads
from reglab.processes.child_processes import ChildProcesses
from reglab.processes.parent_watch import exit_with_parent
from reglab.sweeps.blocks import Job
from reglab.sweeps.preflight import format_faults

TIMEOUT_SECONDS = 60.0  # data that take longer to load are checked by the jobs
Messages = dict[str, list[int]]  # sentences, each with the numbers of the jobs that it is about
Tables = dict[str, tuple[TableReport, list[int]]]  # by their text, with the numbers of the jobs that have them
Findings = tuple[Messages, Messages, Tables]
Check = Callable[[Mapping[int, Mapping[str, Any]], DictConfig, float], Findings | None]


def check_in_process(jobs: Mapping[int, Mapping[str, Any]], config: DictConfig, seconds: float) -> Findings | None:
    """Load the data of ``jobs`` in a child process.

    Args:
        jobs: Resolved configs, by the jobs' numbers.
        config: Of the whole sweep, with Hydra's node.
        seconds: That loading may take once the child has imported what it needs.

    Returns:
        Faults, advice and tables; None after a timeout or crash, since jobs report by themselves.
    """
    launcher = config.hydra.launcher
    threads = int(launcher.get("threads") or 1)
    context = start_server(list(launcher.get("preload") or []), threads)
    with ChildProcesses() as children, suppress(EOFError):
        with worker_environment(threads):
            pipe = children.start(
                0, context, _run_checks, dict(jobs), config, threads, trusted_packages(), daemon=True
            ).pipe
        pipe.recv()  # it has finished importing
        result: Findings | None = pipe.recv() if pipe.poll(seconds) else None
        return result
    return None


def check_data(
    jobs: Sequence[Job], composer: Composer, config: DictConfig, check: Check = check_in_process
) -> list[TableReport]:
    """Load each distinct data set of the jobs in a child process, and print advice about it.

    Splits, seeds and label noise do not make another data set.

    Args:
        jobs: The jobs to run.
        composer: Of the sweep.
        config: Of the whole sweep, with Hydra's node.
        check: Returns faults, advice and tables, or None where it cannot say.

    Returns:
        The reports of their tables.

    Raises:
        UserError: Data cannot be loaded.
    """
    if not jobs:
        return []
    resolved = {job.number: composer.resolved(job.overrides) for job in jobs}
    result = check(resolved, config, TIMEOUT_SECONDS)
    if result is None:
        return []
    faults, advice, tables = result
    if faults:
        job_of = {job.number: job for job in jobs}
        raise UserError(
            format_faults({text: [job_of[number] for number in numbers] for text, numbers in faults.items()}, len(jobs))
        )
    for sentence, numbers in [*((text, numbers) for text, (_, numbers) in tables.items()), *advice.items()]:
        scope = "" if len(numbers) == len(jobs) else f" ({len(numbers)} of {len(jobs)} jobs)"
        first, *others = sentence.splitlines()
        print("\n".join([first + scope, *others]), file=sys.stderr)
    return [report for report, _ in tables.values()]


def _run_checks(
    pipe: Connection,
    jobs: Mapping[int, Mapping[str, Any]],
    config: DictConfig,
    threads: int,
    trusted: Sequence[str],
) -> None:
    exit_with_parent(grace=0)
    trust(*trusted)
    secrets.learn(config)
    limit_threads(threads)
    check = tasks.data_checker()
    pipe.send(None)
    pipe.send(tuple(check(jobs)))  # plain, for a process without torch
