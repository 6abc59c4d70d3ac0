"""Mark the run of a user's own logger, so that ``reglab report --experiment`` finds and groups it."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger

from reglab.measures import score_name
from reglab.regularizers import Cocktail
from reglab.tasks import Task, task_named
from reglab.training.describe import cocktail_tags
from reglab.training.lightning_packages import is_lightning

_GLOBAL_SEED = "PL_GLOBAL_SEED"  # set by Lightning's seed_everything


def tag_runs(loggers: Iterable[Logger], cocktail: Cocktail, task: Task | str, seed: int) -> None:
    """Tag the runs of Lightning's ``MLFlowLogger``s with regularizers, strength and seed.

    Args:
        loggers: Of a trainer.
        cocktail: That trains.
        task: Of the outputs.
        seed: Of the cocktail's draws, where the program has no seed of its own.
    """
    tags = {
        **cocktail_tags(cocktail),
        "reglab.seed": os.environ.get(_GLOBAL_SEED) or str(seed),
        "reglab.task": task_named(task).name,
        "reglab.score": score_name(task),
    }
    for logger in _of_mlflow(loggers):
        for name, value in tags.items():
            logger.experiment.set_tag(str(logger.run_id), name, value)


def log_final(loggers: Iterable[Logger], metrics: Mapping[str, float], epoch: int) -> None:
    """Log the last measurement as ``final/...``, by which a report compares runs.

    Args:
        loggers: Of a trainer.
        metrics: By name.
        epoch: That they were measured after.
    """
    for logger in _of_mlflow(loggers):
        for name, value in {**metrics, "epoch": float(epoch)}.items():
            logger.experiment.log_metric(str(logger.run_id), f"final/{name}", value, step=epoch)


def _of_mlflow(loggers: Iterable[Logger]) -> list[Any]:
    return [logger for logger in loggers if is_lightning(logger, MLFlowLogger)]
