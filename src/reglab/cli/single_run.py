"""``reglab train`` without a sweep: one run in this process, its progress and its result."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from reglab.config.job_request import JobRequest, attach
from reglab.config.trust import trusted_packages
from reglab.core import signals
from reglab.core.errors import UserError
from reglab.core.metric_direction import LOSS_OF_REGRESSION
from reglab.core.override import typed
from reglab.launchers import task
from reglab.launchers.display import Display
from reglab.launchers.events import Ended, EpochEnded, Progress, Reporter, Started, end_from_result, numbers, reporting
from reglab.processes import rank_consistency, rank_environment
from reglab.tracking.folder import IDENTITY, is_pending, read_identity, shell_path
from reglab.tracking.run_state import RunState
from reglab.tracking.settings import view_command
from reglab.tracking.store_gate import naming_option


def train_one(hydra: Hydra, name: str, config: DictConfig, label: str = "one run") -> int:
    """Train one run and return the exit code: 0 finished, 1 failed, 130 or 143 interrupted.

    Raises what training raises.

    Args:
        hydra: With its search path.
        name: The primary config.
        config: Composed, with Hydra's node.
        label: Of the run, for the display.
    """
    errors: list[BaseException] = []
    folder: list[Path] = []

    def train(report: Reporter) -> object:
        def guarded(config: DictConfig) -> Any:
            try:
                folder.append(Path(HydraConfig.get().runtime.output_dir))
                with reporting(report):
                    return task.train(config)
            except Exception as error:  # noqa: BLE001 - raised below, without Hydra
                errors.append(error)

        try:
            returned = run_once(hydra, name, config, guarded)
        except OSError as error:
            if folder:
                raise
            raise UserError(
                f"the run's folder cannot be created ({error}): go to a folder that you can write, or give another "
                "hydra.run.dir"
            ) from error
        if errors:
            raise errors[0]
        return returned.return_value

    end = _with_display(label, train)
    return _print_result(end, folder[0])


def run_once(hydra: Hydra, name: str, config: DictConfig, task_function: TaskFunction) -> JobReturn:
    """Do what ``Hydra.run`` does with a config that is composed already.

    Args:
        hydra: With its search path.
        name: The primary config.
        config: Composed, with Hydra's node.
        task_function: Trains the job.
    """
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=name)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    returned = run_job(task_function, config, "hydra.run.dir", None, context)
    callbacks.on_run_end(config=config, config_name=name, job_return=returned)
    return returned


def resume_run(config: DictConfig, state: RunState, request: JobRequest | None = None) -> int:
    """Resume a run and return the exit code as ``train_one``.

    Args:
        config: Of the run.
        state: Of the run.
        request: Of its job, in a sweep.
    """
    rank_consistency.check_started_processes(config)

    def train(report: Reporter) -> object:
        with reporting(report):
            return task.train(attach(config, request) if request else config, state)

    return _print_result(_with_display(f"resuming {state.folder}", train), state.folder)


def _with_display(label: str, train: Callable[[Reporter], object]) -> Ended:
    if not rank_environment.process_rank().first:  # the first process shows what all of them do
        with rank_environment.exit_with_first_rank():
            return end_from_result(0, train(lambda progress: None))
    with Display({0: label}) as display:
        display.on_event(Started(0))

        def report(progress: Progress) -> None:
            display.on_event(EpochEnded(0, progress.epoch, progress.epochs, numbers(progress.metrics)))
            display.on_tick()

        end = end_from_result(0, train(report))
        display.on_event(end)
    return end


def _print_result(end: Ended, folder: Path) -> int:
    rank = rank_environment.process_rank()
    if rank.launched_by == "lightning" and not rank.node_leader:
        # The first process knows how it ended, and would be killed if this one ended otherwise.
        return 0
    if rank.first:
        print(result(end))
        if (folder / IDENTITY).is_file():
            print(f"It is in {shell_path(folder)}. {_view_hint(folder)}")
        if end.status == "KILLED":
            trusted = f" {typed('trust', list(trusted_packages()))}" if trusted_packages() else ""
            named = naming_option(read_identity(folder).uri, folder) if (folder / IDENTITY).is_file() else ""
            print(f"To resume it: reglab resume {shell_path(folder)}{named}{trusted}")
    return {"FINISHED": 0, "FAILED": 1, "KILLED": signals.exit_code()}[end.status]


def _view_hint(folder: Path) -> str:
    identity = read_identity(folder)
    if is_pending(folder):
        return "To see it in MLflow, first: reglab sync"
    return f"To see it: {view_command(identity.uri)}" if identity.uri else ""


def result(end: Ended) -> str:
    """Return a run's result in a few lines."""
    lines = [f"run {end.run_id}: {end.status}" if end.run_id else end.status]
    if end.message:
        lines.append(f"  {end.message}")
    for key in [key for part in ("train/", "val/", "gap/", "test/") for key in end.metrics if key.startswith(part)]:
        if not key.endswith(("_low", "_high", "_se")):
            low, high = end.metrics.get(f"{key}_low"), end.metrics.get(f"{key}_high")
            known = low is not None and high is not None and not math.isnan(low + high)
            interval = f"  [{low:.4g}, {high:.4g}]" if known else ""
            lines.append(f"  {key:<14} {end.metrics[key]:.4g}{interval}")
    if "val/rmse" in end.metrics:
        lines.append(f"  {LOSS_OF_REGRESSION}")
    if "weights/zeros" in end.metrics:
        lines.append(f"  {'exact zeros':<14} {end.metrics['weights/zeros']:.1%} of the weights")
    if "gap/loss" in end.metrics:
        from reglab.training.run_note import verdict  # late: it imports torch, as the run has

        lines.append(verdict(end.metrics))
    return "\n".join(lines)
