"""The functions that worker processes call for a job, or for several at once; what is heavy is imported there."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from reglab.config.pack_settings import PackSettings
from reglab.launchers.compose import job_folder
from reglab.launchers.events import Progress, reporter

if TYPE_CHECKING:
    from reglab.training.fused.cost import PackCost
    from reglab.training.preflight import Findings


def train(config: DictConfig) -> object:
    """Train one job and return its ``JobResult``."""
    _quiet()
    from reglab.training.job import run_job  # late: torch is not needed to check and launch a sweep

    return run_job(config, reporter())


def train_pack(
    configs: Sequence[DictConfig],
    settings: PackSettings,
    on_progress: Callable[[int, Progress], None] | None,
    on_end: Callable[[int, Any], None],
) -> None:
    """Train jobs fused; ``on_end(position, result)`` is called once for each. Raises Unfused, UserError."""
    _quiet()
    from reglab.training.fused.job import run_pack  # late, as above

    run_pack(configs, [job_folder(config) for config in configs], settings, on_progress, on_end)


def looker() -> Callable[[Mapping[int, Mapping[str, Any]]], "Findings"]:
    """Return what loads the data of jobs (by number: resolved configs) and tells what is wrong with them, or idle."""
    _quiet()
    from reglab.training.preflight import check_jobs  # late, as above

    return check_jobs


def try_pack(configs: Sequence[DictConfig], settings: PackSettings) -> "PackCost":
    """Train a few steps of jobs, fused if they are several, and return what they took. Raises Unfused, UserError."""
    _quiet()
    from reglab.training.fused.cost import measure_cost  # late, as above

    return measure_cost(configs, settings)


def _quiet() -> None:
    # Lightning 2.6 asks torch in a way that torch 2.13 is giving up; neither is the user's doing.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
