"""Task functions that worker processes call to train jobs; torch is imported inside them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from reglab.config.job_request import JobRequest, take
from reglab.config.lightning_loop import uses_lightning_loop
from reglab.config.pack_settings import PackSettings
from reglab.core.user_code import user_code
from reglab.launchers.events import Progress, reporter

if TYPE_CHECKING:
    from reglab.tracking.run_state import RunState
    from reglab.training.fused.cost import PackCost
    from reglab.training.preflight import Findings


def train(config: DictConfig, resume: "RunState | None" = None) -> object:
    """Train one job, which may be a sweep's, and return its ``JobResult``.

    Args:
        config: Of the job; a request in it is taken out.
        resume: The state of a run to resume.
    """
    _filter_warnings()
    request = take(config)
    if uses_lightning_loop(config):
        from reglab.training.lightning.job import run_module_job  # late: torch is not needed to launch a sweep

        with user_code():
            return run_module_job(config, reporter(), resume, request)
    from reglab.training.job import run_job  # late, as above

    with user_code():
        return run_job(config, reporter(), resume, request)


def train_pack(
    configs: Sequence[DictConfig],
    requests: Sequence[JobRequest],
    settings: PackSettings,
    on_progress: Callable[[int, Progress], None] | None,
    on_end: Callable[[int, Any], None],
) -> None:
    """Train jobs fused.

    Args:
        configs: Of the jobs.
        requests: Of the jobs.
        settings: Of the pack.
        on_progress: Called with an index into ``configs`` and its progress.
        on_end: Called once for each job, with its index and ``JobResult``.

    Raises:
        Unfused: The jobs cannot be trained as one pack.
        UserError: A job's configuration is refused.
    """
    _filter_warnings()
    from reglab.training.fused.job import run_pack  # late, as above

    with user_code():
        run_pack(configs, [request.folder for request in requests], settings, on_progress, on_end, requests)


def data_checker() -> Callable[[Mapping[int, Mapping[str, Any]]], "Findings"]:
    """Return the function that loads the data of jobs and returns faults and advice."""
    _filter_warnings()
    from reglab.training.lightning.preflight import check_jobs  # late, as above

    return check_jobs


def try_pack(configs: Sequence[DictConfig], settings: PackSettings) -> "PackCost":
    """Train a few steps of jobs, fused if they are several, and return their cost.

    Raises:
        Unfused: The jobs cannot be trained as one pack.
        UserError: A job's configuration is refused.
    """
    _filter_warnings()
    from reglab.training.fused import cost  # late, as above
    from reglab.training.lightning import preflight

    with user_code():
        if uses_lightning_loop(configs[0]):
            return preflight.measure_cost(configs[0])
        return cost.measure_cost(configs, settings)


def _filter_warnings() -> None:
    # Lightning 2.6 uses an API that torch 2.13 deprecates; the user cannot change that.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
