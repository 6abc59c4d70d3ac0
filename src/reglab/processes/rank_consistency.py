"""What the processes of one run must have alike before it starts: how many they are, and the run's folder."""

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reglab.core.errors import UserError
from reglab.processes.rank_environment import BY_HAND, claim, place


def check(config: DictConfig, sweep: bool = False) -> None:
    """Raise UserError unless the processes that were started are those that ``config`` trains on."""
    here, started, wanted = place(), place().ranks, _wanted(config)
    if started > 1 and sweep:
        raise UserError(
            f"{here.starter} started {started} processes, and each would run the whole sweep: start reglab once, "
            "without it; hydra/launcher=process gives each job the devices that it asks for"
        )
    if here.starter in ("torchrun", "srun") and wanted not in (None, started):
        raise UserError(
            f"{here.starter} started {started} processes, but trainer.devices times trainer.num_nodes is {wanted}: "
            "give as many as are started"
        )
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if not here.starter and (wanted or 1) > 1 and tasks != "1" and os.environ.get("SLURM_JOB_NAME") not in BY_HAND:
        raise UserError(f"put srun before reglab: the Slurm job has {tasks} tasks, and srun starts a process for each")
    if here.starter in ("", "lightning") and _trainer(config).get("num_nodes", 1) != 1 and _by_time(config):
        raise UserError(
            "processes that are started by hand on several nodes would each name the run's folder by their own clock: "
            "give hydra.run.dir=FOLDER, the same for all"
        )
    if here.starter == "srun" and started > 1:
        _tell_lightning_of_tasks()


def agree(config: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Return overrides that give the processes of one run one folder, the first one's to write in.

    torchrun's go by the clock of whichever asked first. Slurm's are named after job and step, so that a job that is
    requeued finds its run again, and goes on.
    """
    here, more = place(), []
    if here.starter == "torchrun" and here.ranks > 1:
        now = datetime.fromisoformat(claim("reglab/now", datetime.now().isoformat(timespec="microseconds")))
        OmegaConf.register_new_resolver("now", lambda pattern: now.strftime(pattern), use_cache=True, replace=True)
    if here.starter == "srun" and _by_time(config):
        if not any(override.partition("=")[0] == "hydra.run.dir" for override in overrides):
            more.append(f"hydra.run.dir=runs/slurm/{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}")
        elif here.ranks > 1:
            raise UserError(
                "hydra.run.dir: processes that srun starts would each read ${now:} by themselves; name the folder "
                "after the job, as in hydra.run.dir=runs/$SLURM_JOB_ID"
            )
    if here.starter in ("torchrun", "srun") and not here.first:  # Lightning tells those that it starts by itself
        more.append("hydra.output_subdir=null")
    return more


def _trainer(config: DictConfig) -> Any:
    return config.get("trainer") or {}


def _wanted(config: DictConfig) -> int | None:
    """Return how many devices a job trains on; None where only the machine can tell."""
    devices, nodes = _trainer(config).get("devices", 1), _trainer(config).get("num_nodes", 1)
    each = len(devices) if OmegaConf.is_list(devices) else devices
    return each * nodes if isinstance(each, int) and isinstance(nodes, int) and each > 0 else None


def _by_time(config: DictConfig) -> bool:
    run: Any = OmegaConf.to_container(config.hydra.run, resolve=False) if "hydra" in config else {}
    return "${now:" in str(run.get("dir", ""))


def _tell_lightning_of_tasks() -> None:
    """Lightning refuses ``srun --ntasks``, whose tasks Slurm counts for each node only when it is asked to."""
    counts = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ.get("SLURM_TASKS_PER_NODE", "")
    each = counts.partition("(")[0]
    if each.isdigit():
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", each)
