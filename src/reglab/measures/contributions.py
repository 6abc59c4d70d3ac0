"""Per-row contributions to a metric, to compare two models row by row."""

import torch
from torch import Tensor

from reglab.core.metric_direction import WEIGHTED
from reglab.measures import scores as functions
from reglab.measures.parts import sides_of_targets
from reglab.measures.per_example import losses_of, point_score, ratios_without
from reglab.measures.sides import Side
from reglab.tasks import Task, task_named
from reglab.tasks.multi import Multi


def row_terms(name: str, measured: Side, task: Task | str) -> Tensor:
    """Return terms ``[..., rows]`` whose mean is the metric, and whose variance / rows is its
    sampling variance.

    Of a mean they are what it is the mean of; of any other metric its value plus each row's
    influence on it: of R² and RMSE by how a row moves the mean squared error, of weighted means
    ``w * (x - mean)``, of F1, AUROC, average precision and balanced accuracy as ``measures.scores``
    has it.

    Args:
        name: ``loss``, a score of ``reglab.core.metric_direction``, ``weighted_loss`` or
            ``weighted_accuracy``.
        measured: The rows.
        task: Which the metric is one of.

    Source: Efron & Tibshirani (1993), An introduction to the bootstrap, chapter 21 (the
    infinitesimal jackknife).
    """
    task = task_named(task)
    if isinstance(task, Multi) and "/" in name:
        target, _, own_name = name.rpartition("/")
        own, part = next((own, part) for found, own, part in sides_of_targets(measured, task) if found == target)
        return row_terms(own_name, part, own)
    if name.startswith(WEIGHTED):
        return _weighted(row_terms(name.removeprefix(WEIGHTED), measured._replace(weights=None), task), measured)
    if name == "loss":
        return losses_of(measured.statistics, task)
    if name == "log_loss":
        return task.log_losses(measured.statistics, measured.outputs, measured.targets)
    if name == "accuracy" or (task.decides and name == task.score):
        return measured.statistics[1]
    if name == task.score:
        value = point_score(measured.statistics, measured.scale, task).unsqueeze(-1)
        moved = ratios_without(task.columns_of(measured.statistics), measured.scale)
        return value + (1 - value) * (moved - moved.mean(-1, keepdim=True)) * (moved.shape[-1] - 1)
    if name in task.means:
        return measured.statistics[task.means[name]]
    if name == "perplexity":
        losses = task.log_losses(measured.statistics, measured.outputs, measured.targets)
        mean = losses.mean(-1, keepdim=True)
        return mean.exp() * (1 + losses - mean)
    if name == "mean_iou":
        score = functions.mean_of_columns(functions.iou(measured.statistics))
        return score.value.unsqueeze(-1) + score.influence
    units = 1.0 if measured.units is None else measured.units.unsqueeze(-1)
    if name == "rmse":
        squares = task.columns_of(measured.statistics)
        mean = squares.mean(-1, keepdim=True)
        root = mean.sqrt()
        divisor = (2 * root).masked_fill(root == 0, 1.0)  # 0: a column that is fitted perfectly
        around = (squares - mean) / divisor
        return (units * (root + around)).mean(0)
    if name == "mae":
        return (units * task.columns_of(measured.statistics).sqrt()).mean(0)
    assert measured.outputs is not None
    assert measured.targets is not None
    answers = task.answers(measured.outputs, measured.targets)
    if name == "brier":
        return functions.brier(answers, task)
    if name == "kappa":
        score = functions.kappa(functions.two_sided(answers, task))
    elif name == "balanced_accuracy":
        score = functions.mean_of_columns(functions.recall(functions.two_sided(answers, task)))
    else:
        score = functions.mean_of_columns(functions.RANKED[name](answers))
    return score.value.unsqueeze(-1) + score.influence


def _weighted(terms: Tensor, measured: Side) -> Tensor:
    weights = torch.ones_like(terms) if measured.weights is None else measured.weights.to(terms.dtype)
    weights = weights / weights.mean(-1, keepdim=True)
    mean = (weights * terms).mean(-1, keepdim=True)
    return mean + weights * (terms - mean)
