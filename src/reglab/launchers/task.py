"""The functions that worker processes call for a job, or for several at once; what is heavy is imported there."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from reglab.config.pack_settings import PackSettings
from reglab.launchers.compose import job_folder
from reglab.launchers.events import Progress, reporter

if TYPE_CHECKING:
    from reglab.training.fused.cost import Trial
    from reglab.training.preflight import Seen


def train(config: DictConfig) -> object:
    """Train one job and return its ``JobResult``."""
    _filter_warnings()
    from reglab.training.job import run_job  # late: torch is not needed to check and launch a sweep

    return run_job(config, reporter())


def train_pack(
    configs: Sequence[DictConfig],
    settings: PackSettings,
    on_progress: Callable[[int, Progress], None] | None,
    on_end: Callable[[int, Any], None],
) -> None:
    """Train jobs fused; ``on_end(position, result)`` is called once for each. Raises Unfused, UserError."""
    _filter_warnings()
    from reglab.training.fused.job import run_pack  # late, as above

    run_pack(configs, [job_folder(config) for config in configs], settings, on_progress, on_end)


def data_checker() -> Callable[[Mapping[int, Mapping[str, Any]]], "Seen"]:
    """Return what loads the data of jobs (by number: resolved configs) and tells what is wrong with them, or idle."""
    _filter_warnings()
    from reglab.training.preflight import look  # late, as above

    return look


def try_pack(configs: Sequence[DictConfig], settings: PackSettings) -> "Trial":
    """Train a few steps of jobs, fused if they are several, and return what they took. Raises Unfused, UserError."""
    _filter_warnings()
    from reglab.training.fused.cost import trial  # late, as above

    return trial(configs, settings)


def _filter_warnings() -> None:
    # Lightning 2.6 asks torch in a way that torch 2.13 is giving up; neither is the user's doing.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
