"""``reglab train`` without a sweep: one run in this process, its progress and its result."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from reglab.config.trust import listed
from reglab.core import signals
from reglab.core.errors import UserError
from reglab.core.metric_direction import LOSS_OF_REGRESSION
from reglab.launchers import task
from reglab.launchers.display import Display
from reglab.launchers.events import Ended, EpochEnded, Progress, Reporter, Started, end_from_result, numbers, reporting
from reglab.processes import rank_consistency, rank_environment
from reglab.tracking.folder import IDENTITY, is_pending, read_identity, typed
from reglab.tracking.settings import opened


def train_one(hydra: Hydra, name: str, overrides: list[str], more: Sequence[str] = ()) -> int:
    """Train one run and return the exit code: 0 finished, 1 failed, 130 or 143 interrupted.

    more: further overrides, which the user did not give. Raises what training raises.
    """
    trouble: list[BaseException] = []
    folder: list[Path] = []

    def train(report: Reporter) -> object:
        def guarded(config: DictConfig) -> Any:
            try:
                folder.append(Path(HydraConfig.get().runtime.output_dir))
                with reporting(report):
                    return task.train(config)
            except Exception as error:  # noqa: BLE001 - raised below: Hydra would print a line of its own first
                trouble.append(error)

        try:
            returned = hydra.run(config_name=name, task_function=guarded, overrides=[*overrides, *more])
        except OSError as error:
            if folder:
                raise
            raise UserError(
                f"the run's folder cannot be made ({error}): go to a folder that you can write, or give another "
                "hydra.run.dir"
            ) from error
        if trouble:
            raise trouble[0]
        return returned.return_value

    end = _shown(" ".join(overrides) or "one run", train)
    return _told(end, folder[0])


def go_on_with(config: DictConfig, folder: Path) -> int:
    """Let the run in ``folder`` go on with ``config`` and return the exit code as ``train_one`` does."""
    rank_consistency.check_started_processes(config)

    def train(report: Reporter) -> object:
        from reglab.training.job import run_job  # late: torch

        return run_job(config, report, folder)

    return _told(_shown(f"going on in {folder}", train), folder)


def _shown(label: str, train: Callable[[Reporter], object]) -> Ended:
    if not rank_environment.process_rank().first:  # the first process shows what all of them do
        with rank_environment.exit_with_parent():
            return end_from_result(0, train(lambda progress: None))
    with Display({0: label}) as display:
        display.on_event(Started(0))

        def report(progress: Progress) -> None:
            display.on_event(EpochEnded(0, progress.epoch, progress.epochs, numbers(progress.metrics)))
            display.on_tick()

        end = end_from_result(0, train(report))
        display.on_event(end)
    return end


def _told(end: Ended, folder: Path) -> int:
    here = rank_environment.process_rank()
    if here.launched_by == "lightning" and not here.node_leader:
        return 0  # the first process knows how it ended, and would be killed if this one ended otherwise
    if here.first:
        print(result(end))
        if (folder / IDENTITY).is_file():
            print(f"It is in {typed(folder)}. {_shown_by(folder)}")
        if end.status == "KILLED":
            trusted = f" 'trust=[{','.join(listed())}]'" if listed() else ""
            print(f"To go on where it stopped: reglab resume {typed(folder)}{trusted}")
    return {"FINISHED": 0, "FAILED": 1, "KILLED": signals.code()}[end.status]


def _shown_by(folder: Path) -> str:
    identity = read_identity(folder)
    if is_pending(folder):
        return "To see it in MLflow, first: reglab sync"
    return f"To see it: {opened(identity.uri)}" if identity.uri else ""


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
    if "gap/loss_low" in end.metrics:
        from reglab.training.run_note import verdict  # late: it imports torch, as the run has

        lines.append(verdict(end.metrics))
    return "\n".join(lines)
