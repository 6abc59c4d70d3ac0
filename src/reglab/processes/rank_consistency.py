"""Checks before a multi-process run: world size, one output folder for all ranks."""

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reglab.core.errors import UserError
from reglab.processes.rank_environment import INTERACTIVE_JOBS, agree_on, process_rank


def check_started_processes(config: DictConfig, sweep: bool = False) -> None:
    """Check the number of started processes against ``trainer.devices`` and ``trainer.num_nodes``.

    Args:
        config: The composed config of the run.
        sweep: Whether the command runs a sweep, which only one process may do.

    Raises:
        UserError: The numbers differ, or several processes would run one sweep.
    """
    current, started, expected = process_rank(), process_rank().ranks, _device_count(config)
    if started > 1 and sweep:
        raise UserError(
            f"{current.launched_by} started {started} processes, and each would run the whole sweep. Start reglab "
            f"without {current.launched_by}; hydra/launcher=process gives each job the devices that it asks for"
        )
    if current.launched_by in ("torchrun", "srun") and expected not in (None, started):
        raise UserError(
            f"{current.launched_by} started {started} processes, but trainer.devices times trainer.num_nodes is "
            f"{expected}. Set trainer.devices and trainer.num_nodes to match"
        )
    tasks, interactive = os.environ.get("SLURM_NTASKS", "1"), os.environ.get("SLURM_JOB_NAME") in INTERACTIVE_JOBS
    if not current.launched_by and (expected or 1) > 1 and tasks != "1" and not interactive:
        raise UserError(f"put srun before reglab: the Slurm job has {tasks} tasks, and srun starts a process for each")
    if (
        current.launched_by in ("", "lightning")
        and _trainer(config).get("num_nodes", 1) != 1
        and _folder_has_time(config)
    ):
        raise UserError(
            "processes started by hand on several nodes would each name the run's folder by their own clock. "
            "Give hydra.run.dir=FOLDER, the same for all"
        )
    if current.launched_by == "srun" and started > 1:
        _set_tasks_per_node()


def shared_folder_overrides(config: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Return overrides by which all ranks of a run share one folder, in which rank 0 writes.

    Under torchrun ``${now:}`` is one time for all ranks. Under Slurm the folder is named after job
    and step, so that a requeued job finds its run and resumes it.

    Args:
        config: The composed config of the run.
        overrides: The command line's.

    Returns:
        Overrides to compose the config again with.

    Raises:
        UserError: ``hydra.run.dir`` would be another folder on each rank.
    """
    current, overrides_to_add = process_rank(), []
    if current.launched_by == "torchrun" and current.ranks > 1:
        now = datetime.fromisoformat(agree_on("reglab/now", datetime.now().isoformat(timespec="microseconds")))
        OmegaConf.register_new_resolver("now", lambda pattern: now.strftime(pattern), use_cache=True, replace=True)
    if current.launched_by == "srun" and _folder_has_time(config):
        if not any(override.partition("=")[0] == "hydra.run.dir" for override in overrides):
            overrides_to_add.append(
                f"hydra.run.dir=runs/slurm/{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
            )
        elif current.ranks > 1:
            raise UserError(
                "hydra.run.dir contains ${now:}, which differs between the processes that srun starts. Name the folder "
                "after the job, as in hydra.run.dir=runs/$SLURM_JOB_ID"
            )
    # Lightning sets this itself for the processes that it starts.
    if current.launched_by in ("torchrun", "srun") and not current.first:
        overrides_to_add.append("hydra.output_subdir=null")
    return overrides_to_add


def _trainer(config: DictConfig) -> Any:
    return config.get("trainer") or {}


def _device_count(config: DictConfig) -> int | None:
    """Return how many devices a job trains on; None where only the machine decides (``auto``)."""
    devices, nodes = _trainer(config).get("devices", 1), _trainer(config).get("num_nodes", 1)
    per_node = len(devices) if OmegaConf.is_list(devices) else devices
    return per_node * nodes if isinstance(per_node, int) and isinstance(nodes, int) and per_node > 0 else None


def _folder_has_time(config: DictConfig) -> bool:
    run: Any = OmegaConf.to_container(config.hydra.run, resolve=False) if "hydra" in config else {}
    return "${now:" in str(run.get("dir", ""))


def _set_tasks_per_node() -> None:
    """Set SLURM_NTASKS_PER_NODE, without which Lightning refuses ``srun --ntasks``."""
    counts = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ.get("SLURM_TASKS_PER_NODE", "")
    tasks = counts.partition("(")[0]
    if tasks.isdigit():
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", tasks)
