"""The fused launcher: jobs that differ in numbers only train as packs, one worker process each, the others alone."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig

from reglab.analysis.formatting import plural
from reglab.config.pack_settings import COMPILE_SECONDS, PackSettings
from reglab.core.errors import UserError
from reglab.launchers import resumable_jobs
from reglab.launchers.compose import Composer, JobGroup, composer_of, hydra_config
from reglab.launchers.dependencies import dependencies, levels, merge_levels
from reglab.launchers.local import LocalRunner
from reglab.launchers.packing import Plan, plan, split

_COMPILE = {None: None, "auto": None, True: True, False: False}


class PackRunner:
    """Packs jobs and runs them on ``local``'s workers.

    pack: the largest number of members, None for as many as memory holds. compile: None or ``auto`` to decide by the
    size of the sweep. always: also where the jobs would be done sooner one by one. compile_seconds: after which
    compiling is given up.
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

    def launch(
        self,
        jobs: Mapping[int, Sequence[str]],
        context: HydraContext,
        config: DictConfig,
        task: Callable[[DictConfig], object],
    ) -> list[JobReturn]:
        """Run the jobs (by number: their overrides) and return how each ended, by number. Raises Interrupted."""
        composer = composer_of(context.config_loader, config)
        resumed = resumable_groups(jobs, composer, config)
        done = {job for group in resumed for job in group.jobs}
        left = {job: overrides for job, overrides in jobs.items() if job not in done}
        planned = plan_jobs(left, composer, config)
        for line in [*resume_lines(resumed), *planned.lines()]:
            print(line, file=sys.stderr)
        groups = [
            JobGroup(group, tuple(tuple(jobs[job]) for job in group))
            for part in levels(planned, dependencies(left))
            for group in split(part, self._local.workers, self._max_members)
        ]
        return self._local.launch([*resumed, *groups], context, config, task, self._settings)


def resumable_groups(jobs: Mapping[int, Sequence[str]], composer: Composer, config: DictConfig) -> list[JobGroup]:
    """Return the orders that an earlier launch of the sweep had begun and that go on as they were, packs first."""
    with hydra_config(config):
        folder = Path(str(config.hydra.sweep.dir)).absolute()
    packs = resumable_jobs.pack_groups(folder, jobs)
    packed = {job for group in packs for job in group.jobs}
    rest = {job: overrides for job, overrides in jobs.items() if job not in packed}
    return [*packs, *resumable_jobs.solo_groups(folder, rest, composer)]


def resume_lines(resumed: Sequence[JobGroup]) -> list[str]:
    """Return what a user should know of orders that go on, in a line if there are any."""
    packs = [len(group.jobs) for group in resumed if len(group.jobs) > 1]
    parts = [f"{plural(sum(packs), 'job')} in {plural(len(packs), 'pack')}"] if packs else []
    parts += [f"{plural(len(resumed) - len(packs), 'job')} alone"] if len(resumed) > len(packs) else []
    return [f"from their checkpoints go on: {' and '.join(parts)}"] if parts else []


def plan_jobs(jobs: Mapping[int, Sequence[str]], composer: Composer, config: DictConfig) -> Plan:
    """Return which of the jobs (by number: their overrides) train as packs. config: Hydra's, of the whole sweep."""
    with hydra_config(config):
        planned = plan(
            {job: composer.resolved(overrides) for job, overrides in jobs.items()}, common_solo_reason(config)
        )
    return merge_levels(levels(planned, dependencies(jobs)), planned)


def common_solo_reason(config: DictConfig) -> str | None:
    """Return what Hydra is to do for each job that it cannot do for several in one process, or None."""
    hydra = config.hydra
    if hydra.job.chdir:
        return "hydra.job.chdir=true: a process has one working folder, so each job needs its own"
    if hydra.job.env_set:
        return f"hydra.job.env_set ({', '.join(map(str, hydra.job.env_set))}) is for a process of its own"
    if hydra.callbacks:
        return f"hydra.callbacks ({', '.join(map(str, hydra.callbacks))}) are called for jobs that run alone"
    return None


def check_pack_size(pack: int | None) -> int | None:
    """Return the largest size of a pack. Raises UserError unless it is None or at least 1."""
    if pack is not None and pack < 1:
        raise UserError(f"hydra.launcher.pack must be null or at least 1, got {pack}; 1 trains every job alone")
    return pack


def check_compile(compile: bool | str | None) -> bool | None:  # noqa: A002 - the setting's name
    """Return whether to compile, None for auto. Raises UserError for anything else."""
    if compile not in _COMPILE:
        raise UserError(f"hydra.launcher.compile must be null, auto, true or false, got {compile!r}")
    return _COMPILE[compile]


def check_seconds(seconds: float) -> float:
    """Return the limit of compiling. Raises UserError unless it is a number above 0."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise UserError(f"hydra.launcher.compile_seconds must be a number of seconds above 0, got {seconds!r}")
    return float(seconds)
