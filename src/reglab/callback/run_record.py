"""Mark the run of a user's own logger, so that ``reglab report --experiment`` finds and groups it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger
from pytorch_lightning.utilities import rank_zero_warn

from reglab.callback.batch_evaluation import Asked
from reglab.callback.own_scores import is_lower_better
from reglab.core.metric_direction import LOWER
from reglab.measures import MeasureSettings
from reglab.regularizers import Cocktail
from reglab.training.describe import cocktail_tags
from reglab.training.lightning_packages import is_lightning

OWN_LOSS = "own_loss"  # where there is no task
_GLOBAL_SEED = "PL_GLOBAL_SEED"  # set by Lightning's seed_everything


def run_tags(cocktail: Cocktail, asked: Asked, settings: MeasureSettings) -> dict[str, str]:
    """Return the tags with a run's regularizers, strength, task and scores.

    Args:
        cocktail: That trains.
        asked: What is measured.
        settings: With scores.
    """
    name, score = (asked.task.name, asked.task.score) if asked.task else (OWN_LOSS, "loss")
    tags = {**cocktail_tags(cocktail), "reglab.task": name, "reglab.score": score}
    lower = [*settings.lower, *(name for name, own in asked.scores.items() if is_lower_better(name, own))]
    return tags | ({LOWER: ",".join(lower)} if lower else {})


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


def warn_of_shared(names: Sequence[str]) -> None:
    """Warn of names that the module logs, too.

    Args:
        names: Of metrics; perhaps none.
    """
    if names:
        rank_zero_warn(
            f"the module logs {', '.join(names)} itself, and Regularize logs the same names; tell them apart by "
            "Regularize(..., prefix='audited/')",
            category=UserWarning,
        )
