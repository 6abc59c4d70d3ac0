"""Fused launcher: jobs that differ only in numbers train as packs, the others alone."""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from reglab.analysis.formatting import plural
from reglab.config.hydra_context import hydra_config
from reglab.config.job_request import JobRequest
from reglab.config.pack_settings import COMPILE_SECONDS, PackSettings
from reglab.core import descriptors
from reglab.core.errors import UserError
from reglab.launchers import resumable_jobs
from reglab.launchers.compose import Composer, JobGroup
from reglab.launchers.dependencies import dependencies, levels, merge_levels
from reglab.launchers.events import Ended
from reglab.launchers.local import LocalRunner
from reglab.launchers.packing import MAX_MEMBERS, Plan, plan, split
from reglab.launchers.request_launcher import RequestLauncher

_COMPILE = {None: None, "auto": None, True: True, False: False}


class PackRunner:
    """Groups jobs into packs and runs them.

    Args:
        local: Runs the groups.
        pack: The largest number of members; None for as many as fit into memory.
        compile: Whether packs are compiled; None or ``auto``: if the sweep is large enough.
        always: Fuse also where training one by one would be faster.
        compile_seconds: After which compilation is given up.

    Raises:
        UserError: A setting is out of its range.
    """

    def __init__(
        self,
        local: LocalRunner,
        pack: int | None,
        compile: bool | str | None,  # noqa: A002 - the setting's name
        always: bool = False,
        compile_seconds: float = COMPILE_SECONDS,
    ):
        self._local, self._max_members = local, check_pack_size(pack)
        self._settings = PackSettings(check_compile(compile), local.threads, always, check_seconds(compile_seconds))

    def launch(self, requests: Sequence[JobRequest], composer: Composer, launcher: RequestLauncher) -> dict[int, Ended]:
        """Run the jobs and return how each ended, by its number.

        Args:
            requests: Of the jobs.
            composer: Of the sweep.
            launcher: That was given the jobs.

        Raises:
            Interrupted: By Ctrl-C or SIGTERM.
        """
        assignment = launcher.assignment(composer, self._settings)
        resumed = resumable_groups(requests, assignment.config)
        done = {job for group in resumed for job in group.jobs}
        left = {request.number: request for request in requests if request.number not in done}
        planned = plan_jobs(list(left.values()), composer, assignment.config)
        for line in [*resume_lines(resumed), *planned.lines()]:
            print(line, file=sys.stderr)
        groups = [
            JobGroup(tuple(left[job] for job in jobs))
            for part in levels(planned, dependencies(list(left.values())))
            for jobs in split(part, self._local.workers, _largest_pack(self._max_members))
        ]
        return self._local.launch([*resumed, *groups], assignment)


def _largest_pack(given: int | None) -> int:
    """Return how many members a pack may have: of those wanted, as many as files can be open at once."""
    wanted = given or MAX_MEMBERS
    return min(wanted, descriptors.most_runs() or wanted)


def resumable_groups(requests: Sequence[JobRequest], config: DictConfig) -> list[JobGroup]:
    """Return the groups that an earlier launch of the sweep started and that resume, packs first.

    Args:
        requests: Of the jobs.
        config: Of the whole sweep.
    """
    with hydra_config(config):
        folder = Path(str(config.hydra.sweep.dir)).absolute()
    packs = resumable_jobs.pack_groups(folder, requests)
    packed = {job for group in packs for job in group.jobs}
    return [*packs, *resumable_jobs.solo_groups([each for each in requests if each.number not in packed])]


def resume_lines(resumed: Sequence[JobGroup]) -> list[str]:
    """Return a line that counts the jobs that resume from checkpoints; none if there are none."""
    packs = [len(group.jobs) for group in resumed if len(group.jobs) > 1]
    parts = [f"{plural(sum(packs), 'job')} in {plural(len(packs), 'pack')}"] if packs else []
    parts += [f"{plural(len(resumed) - len(packs), 'job')} alone"] if len(resumed) > len(packs) else []
    return [f"resuming from checkpoints: {' and '.join(parts)}"] if parts else []


def plan_jobs(requests: Sequence[JobRequest], composer: Composer, config: DictConfig) -> Plan:
    """Return which jobs train as packs.

    Args:
        requests: Of the jobs.
        composer: Of the sweep.
        config: Of the whole sweep.
    """
    with hydra_config(config):
        configs = {request.number: composer.resolved(request.overrides) for request in requests}
        planned = plan(configs, common_solo_reason(config))
    return merge_levels(levels(planned, dependencies(requests)), planned)


def common_solo_reason(config: DictConfig) -> str | None:
    """Return the Hydra setting that requires a process for each job; None if there is none."""
    hydra = config.hydra
    if hydra.job.chdir:
        return "hydra.job.chdir=true: jobs of one process share a working directory"
    if hydra.job.env_set:
        return f"hydra.job.env_set ({', '.join(map(str, hydra.job.env_set))}) needs a process for each job"
    if hydra.callbacks:
        return f"hydra.callbacks ({', '.join(map(str, hydra.callbacks))}) are called only for jobs that run alone"
    return None


def check_pack_size(pack: int | None) -> int | None:
    """Return the largest pack size. Raises UserError unless it is None or at least 1."""
    if pack is not None and pack < 1:
        raise UserError(f"hydra.launcher.pack must be null or at least 1, got {pack}; 1 trains every job alone")
    return pack


def check_compile(compile: bool | str | None) -> bool | None:  # noqa: A002 - the setting's name
    """Return whether to compile, None for ``auto``. Raises UserError for anything else."""
    if compile not in _COMPILE:
        raise UserError(f"hydra.launcher.compile must be null, auto, true or false, got {compile!r}")
    return _COMPILE[compile]


def check_seconds(seconds: float) -> float:
    """Return the compile time limit. Raises UserError unless it is a number above 0."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise UserError(f"hydra.launcher.compile_seconds must be a number of seconds above 0, got {seconds!r}")
    return float(seconds)
