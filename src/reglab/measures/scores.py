"""The score of each task: accuracy, or r2 for regression."""

from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional import r2_score
from torchmetrics.functional.classification import binary_accuracy, multiclass_accuracy, multilabel_accuracy

from reglab.measures.losses import Task, aligned


def score_name(task: Task) -> str:
    """Return ``r2`` for regression and ``accuracy`` for every other task."""
    return "r2" if task == "regression" else "accuracy"


def scores(outputs: Tensor, targets: Tensor, task: Task) -> dict[str, Tensor]:
    """Return ``{score name: score}``, greater is better; leading axes of ``outputs`` (members) are kept.

    - accuracy: the share of right classes, ``output > 0`` for binary; for multilabel the mean over the labels
    - r2: ``1 - sum (output - target)^2 / sum (target - mean target)^2``, the mean over output columns; 0 where the
      targets are constant and missed

    Shapes as for ``example_losses``; computed by torchmetrics.
    """
    predictions = aligned(outputs, targets, task)
    leading = predictions.shape[: predictions.dim() - targets.dim() - (task == "classification")]
    if task == "regression":
        return {"r2": _r2(predictions, targets, leading)}
    # Hard labels go in: torchmetrics takes logits that happen to lie in [0, 1] for probabilities.
    labels = decided(predictions, task)
    wanted = targets.long().expand(labels.shape)
    average: Literal["global", "samplewise"] = "global"  # half the time of the other
    if leading:  # a member is one sample, its rows are the extra axis
        average = "samplewise"
        labels, wanted = (values.flatten(0, len(leading) - 1) for values in (labels, wanted))
        if task == "multilabel":
            labels, wanted = labels.mT, wanted.mT
    if task == "classification":
        accuracy = multiclass_accuracy(
            labels, wanted, predictions.shape[-1], average="micro", multidim_average=average, validate_args=False
        )
    elif task == "binary":
        accuracy = binary_accuracy(labels, wanted, multidim_average=average, validate_args=False)
    else:
        accuracy = multilabel_accuracy(labels, wanted, targets.shape[-1], multidim_average=average, validate_args=False)
    return {"accuracy": accuracy.reshape(leading)}


def decided(predictions: Tensor, task: Task) -> Tensor:
    """Return the decision for each target, int64: the class of the largest output, or whether a logit is above 0."""
    return predictions.argmax(-1) if task == "classification" else (predictions > 0).long()


def score_terms(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Return each example's share of right answers, ``[..., rows]``: 0 or 1, but for several labels."""
    predictions = aligned(outputs, targets, task)
    right = (decided(predictions, task) == targets).to(predictions.dtype)
    return right.mean(-1) if task == "multilabel" else right


def standardized(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as ``[..., rows, columns]`` on the scale where targets have mean 0 and variance 1: r2 is unchanged.

    torchmetrics calls sums of squares below 1e-4 zero, which is wrong for targets on a small scale.
    """
    if targets.dim() == 1:
        predictions, targets = predictions.unsqueeze(-1), targets.unsqueeze(-1)
    targets = targets.to(predictions.dtype)
    spread, mean = torch.std_mean(targets, dim=0, correction=0)
    spread = spread.masked_fill(spread == 0, 1.0)
    return (predictions - mean) / spread, (targets - mean) / spread


def _r2(predictions: Tensor, targets: Tensor, leading: torch.Size) -> Tensor:
    predictions, targets = standardized(predictions, targets)
    columns = predictions.movedim(-2, 0).flatten(1)  # [rows, members * columns]: each is scored by itself
    wanted = targets.repeat(1, leading.numel())
    return r2_score(columns, wanted, multioutput="raw_values").reshape(*leading, -1).mean(-1)
