"""Scores: direction, unit, definition. Which task has which: ``reglab.tasks``.

No torch: reports read it too.
"""

import math
from dataclasses import dataclass

LOWER = "reglab.lower"  # tag of a run: the user's own scores of which a lower value is better
CHARTS = "reglab.charts"  # tag of a run: patterns of the metrics that its report draws beside its own
WEIGHTED = "weighted_"  # a metric in which each row counts as it does in training


@dataclass(frozen=True)
class Score:
    """A score of predictions.

    Args:
        higher: Whether a higher value is better.
        unit: For people.
        meaning: Its definition, and what its interval comes from.
        least, most: The lowest and the highest value that there is.
    """

    higher: bool
    unit: str
    meaning: str
    least: float = 0.0
    most: float = math.inf


SCORES = {
    "accuracy": Score(True, "share", "share of correct predictions; multilabel: mean over the labels", most=1),
    "r2": Score(True, "share of the variance", "1 - squared error / variance, mean over the columns", -math.inf, 1),
    "d2": Score(True, "share of the loss", "1 - loss / loss of the best constant, mean over the columns", -math.inf, 1),
    "concordance": Score(True, "probability", "share of comparable pairs whose earlier event has more risk", most=1),
    "ndcg": Score(True, "share", "gain of 10 ranks over that of the best order, mean over the queries", most=1),
    "mrr": Score(True, "share", "1 / rank of the first relevant document, mean over the queries", most=1),
    "mean_iou": Score(True, "share", "intersection over union of the pixels, mean over the classes", most=1),
    "perplexity": Score(False, "classes", "exp of the loss", 1),
    "balanced_accuracy": Score(True, "share", "mean recall over the classes", most=1),
    "auroc": Score(True, "probability", "area under the ROC curve, one-vs-rest mean over the classes", most=1),
    "average_precision": Score(True, "share", "area under the precision-recall curve, mean over the classes", most=1),
    "f1": Score(True, "share", "2 TP / (2 TP + FP + FN), mean over the classes; binary: of class 1", most=1),
    "kappa": Score(True, "agreement beyond chance", "Cohen's: (accuracy - chance) / (1 - chance)", -1, 1),
    "log_loss": Score(False, "nats", "mean of -log p(class): the loss itself"),
    "brier": Score(False, "squared probability", "squared error of p; several classes: the sum over them", most=2),
    "mae": Score(False, "the target's own", "mean |error|, mean over the columns; ordinal: in classes"),
    "rmse": Score(False, "the target's own", "root of the mean squared error, mean over the columns"),
}

OF_TASKS = ("accuracy", "r2", "d2", "concordance", "ndcg")  # each task has one of them, which is always measured

LOSS_OF_REGRESSION = (
    "The loss of a regression is the squared error, not halved, of the target as it is trained on: standardized, "
    "unless the data say otherwise. rmse and mae are in the target's own units."
)


_lower: set[str] = set()  # names of scores of users'


def declare(name: str, higher: bool) -> None:
    """Say which direction of a user's score is better.

    Args:
        name: As in ``val/NAME``.
        higher: Whether higher is.
    """
    if name not in SCORES:
        (_lower.discard if higher else _lower.add)(name)


def lower_is_better(key: str) -> bool:
    """Return whether a metric such as ``val/loss`` or ``val/weighted_loss`` is to be minimized.

    Example:
        >>> lower_is_better("val/loss"), lower_is_better("val/auroc")
        (True, False)
    """
    name = key.rpartition("/")[2].removeprefix(WEIGHTED)
    return name == "loss" or name in _lower or (name in SCORES and not SCORES[name].higher)


def bounds(key: str) -> tuple[float, float]:
    """Return the lowest and the highest value of a metric: of a score, or of the gap in one.

    Example:
        >>> bounds("test/accuracy"), bounds("gap/accuracy"), bounds("val/price/r2"), bounds("val/loss")
        ((0.0, 1), (-1.0, 1.0), (-inf, 1), (-inf, inf))
    """
    side, _, name = key.partition("/")
    score = SCORES.get(name.rpartition("/")[2].removeprefix(WEIGHTED))
    if score is None:
        return -math.inf, math.inf
    return (score.least - score.most, score.most - score.least) if side == "gap" else (score.least, score.most)
