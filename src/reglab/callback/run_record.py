"""Mark the run of a user's own logger, so that ``reglab report --experiment`` finds and groups it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger

from reglab.core.metric_direction import LOWER
from reglab.regularizers import Cocktail
from reglab.tasks import Task
from reglab.training.describe import cocktail_tags
from reglab.training.lightning_packages import is_lightning

OWN_LOSS = "own_loss"  # where there is no task
_GLOBAL_SEED = "PL_GLOBAL_SEED"  # set by Lightning's seed_everything


def run_tags(cocktail: Cocktail, task: Task | None, lower: Sequence[str]) -> dict[str, str]:
    """Return the tags with a run's regularizers, strength, task and scores.

    Args:
        cocktail: That trains.
        task: Of the outputs; None where the loss is the user's own.
        lower: The user's own scores of which a lower value is better.
    """
    name, score = (task.name, task.score) if task else (OWN_LOSS, "loss")
    return {**cocktail_tags(cocktail), "reglab.task": name, "reglab.score": score} | (
        {LOWER: ",".join(lower)} if lower else {}
    )


def tag_runs(loggers: Iterable[Logger], tags: Mapping[str, str], seed: int) -> None:
    """Tag the runs of Lightning's ``MLFlowLogger``s.

    Args:
        loggers: Of a trainer.
        tags: Of the run.
        seed: Of the cocktail's draws, where the program has no seed of its own.
    """
    tags = {**tags, "reglab.seed": os.environ.get(_GLOBAL_SEED) or str(seed)}
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
