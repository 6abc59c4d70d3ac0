"""A sweep from end to end: expand, check, open the parent run, launch, and hand over to the report."""

import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from reglab.errors import UserError
from reglab.sweeps.blocks import Job, expand
from reglab.sweeps.compose import Composer
from reglab.sweeps.events import Ended
from reglab.sweeps.labels import job_labels
from reglab.sweeps.outcome import Interrupted, ends, failures
from reglab.sweeps.preflight import check
from reglab.tracking import RunTracker, TrackingSettings, open_sweep

_log = logging.getLogger(__name__)

Launch = Callable[[Sequence[Sequence[str]]], Sequence[JobReturn]]


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to. parent_id: its run in MLflow. failures: which jobs failed and why, as text."""

    parent_id: str
    jobs: int
    finished: int
    failures: str

    @property
    def complete(self) -> bool:
        """Whether every job finished."""
        return self.finished == self.jobs


def run_sweep(arguments: Sequence[str], config: DictConfig, loader: ConfigLoader, launch: Launch) -> SweepResult:
    """Run the sweep that the command line's ``arguments`` and ``config.sweep`` describe.

    config: Hydra's, composed for a multirun. launch: the configured launcher, from job overrides to returns.
    Raises UserError before anything is started if a job cannot be composed; KeyboardInterrupt if interrupted.
    """
    jobs = plan(arguments, config)
    check(jobs, Composer(loader, config), config, group_options(loader))
    folder = Path(str(config.hydra.sweep.dir)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    settings = TrackingSettings.from_config(config.tracking)
    parent = _open_parent(settings, jobs, arguments, config, folder)
    launcher = OmegaConf.select(config, "hydra.runtime.choices.hydra/launcher")
    if launcher != "local":  # ours shows a table
        print(f"{len(jobs)} jobs by hydra/launcher={launcher}; to watch them: reglab dashboard", file=sys.stderr)
    try:
        found = ends(jobs, launch([job_overrides(job, parent.run_id) for job in jobs]))
    except KeyboardInterrupt as interrupt:
        parent.finish("KILLED")
        _log.warning("%s", interrupted(interrupt, jobs, parent.run_id if settings.backend == "mlflow" else None))
        raise
    except BaseException:
        parent.finish("FAILED")
        raise
    result = _result(parent.run_id, jobs, found)
    try:
        if result.finished and settings.backend == "mlflow":
            from reglab.sweeps.finish import finish_sweep  # late: it imports torch

            finish_sweep(config, parent)
    finally:
        parent.finish("FINISHED" if result.complete else "FAILED")
    return result


def plan(arguments: Sequence[str], config: DictConfig) -> list[Job]:
    """Return the jobs of a sweep. Raises UserError for blocks, seeds or values that cannot be read."""
    sweep: Any = OmegaConf.to_container(config.sweep, resolve=True)
    blocks = sweep.get("blocks") or []
    if not isinstance(blocks, list):
        raise UserError(f"sweep.blocks must be a list of mappings, got {blocks!r}")
    return expand(arguments, blocks, sweep.get("seeds"), list(config.get("regularizer") or {}))


def job_overrides(job: Job, parent_id: str) -> list[str]:
    """Return what a launcher gets for a job: its own overrides and where it belongs."""
    block = job.block.replace("\\", "\\\\").replace("'", "\\'")
    return [*job.overrides, f"sweep.parent={parent_id}", f"sweep.block='{block}'", f"sweep.job={job.number}"]


def group_options(loader: ConfigLoader, parent: str = "") -> dict[str, list[str]]:
    """Return the options of every config group that Hydra knows."""
    found: dict[str, list[str]] = {}
    for name in loader.list_groups(parent):
        group = f"{parent}/{name}" if parent else name
        found[group] = [option for option in loader.get_group_options(group) if not option.startswith("_")]
        found |= group_options(loader, group)
    return found


def _open_parent(
    settings: TrackingSettings, jobs: Sequence[Job], arguments: Sequence[str], config: DictConfig, folder: Path
) -> RunTracker:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra")
    blocks = list(dict.fromkeys(job.block for job in jobs))
    experiment = OmegaConf.select(config, "hydra.runtime.choices.experiment")
    return open_sweep(
        settings,
        name=str(config.get("name") or experiment or f"sweep of {', '.join(blocks)}"[:120]),
        folder=folder,
        config=plain,
        params=plain,
        tags={
            "reglab.command": shlex.join(sys.argv),
            "reglab.overrides": shlex.join(arguments),
            "reglab.jobs": len(jobs),
        },
    )


def _result(parent_id: str, jobs: Sequence[Job], found: Mapping[int, Ended]) -> SweepResult:
    told = {job.number: found.get(job.number, Ended(job.number, "FAILED", "no result came back")) for job in jobs}
    labels = job_labels({job.number: [f"sweep.block={job.block}", *job.overrides] for job in jobs})
    finished = sum(end.status == "FINISHED" for end in told.values())
    return SweepResult(parent_id, len(jobs), finished, failures(told, labels))


def interrupted(interrupt: KeyboardInterrupt, jobs: Sequence[Job], parent_id: str | None) -> str:
    """Return what an interrupted sweep leaves, and how to go on. parent_id: None where MLflow holds nothing."""
    returns = interrupt.returns if isinstance(interrupt, Interrupted) else []
    finished = sum(end.status == "FINISHED" for end in ends(jobs, returns).values())
    text = f"Interrupted: {finished} of {len(jobs)} jobs finished, and their runs are kept."
    if finished and parent_id:
        text += f" Their report: reglab report {parent_id}."
    return f"{text} To run the whole sweep, give the same command again."
