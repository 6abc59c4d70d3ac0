"""Per-example loss of every task."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from reglab.core.errors import UserError, nearest

Task = Literal["classification", "binary", "multilabel", "regression"]
TASKS: tuple[Task, ...] = ("classification", "binary", "multilabel", "regression")


def example_losses(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Return the loss of each example, ``[..., rows]``, in at least float32.

    - classification: cross entropy ``-log softmax(outputs)[target]``; outputs
      ``[..., rows, classes]``, targets int64 ``[rows]``
    - binary: ``-log sigmoid(±output)``; outputs ``[..., rows, 1]`` or ``[..., rows]``, targets 0/1
      ``[rows]``
    - multilabel: the mean over labels of the binary loss; outputs ``[..., rows, labels]``, targets
      ``[rows, labels]``
    - regression: ``(output - target)^2``, not halved, mean over columns; targets ``[rows]`` or
      ``[rows, columns]``

    Outputs may have leading axes (members of a pack); targets are shared by them.

    Args:
        outputs: See above; may have leading axes.
        targets: ``[rows]`` or ``[rows, columns]``.
        task: Which decides the loss.

    Returns:
        ``[..., rows]``.

    Raises:
        UserError: For shapes that do not fit each other and for an unknown task.

    Example:
        >>> example_losses(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), "classification")
        tensor([0.6931])
        >>> example_losses(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]), "regression")
        tensor([0., 4.])
    """
    outputs = aligned(outputs, targets, task)
    if task == "classification" and outputs.dim() == 2:  # no views: their backward pass would cost a tiny step 4%
        return functional.cross_entropy(outputs, targets, reduction="none")
    if task == "classification":
        shape = outputs.shape[:-1]
        flat = functional.cross_entropy(outputs.flatten(0, -2), targets.expand(shape).reshape(-1), reduction="none")
        return flat.reshape(shape)
    expected = targets.to(outputs.dtype).expand(outputs.shape)
    if task == "regression":
        losses = (outputs - expected).square()
    else:
        losses = functional.binary_cross_entropy_with_logits(outputs, expected, reduction="none")
    return losses.mean(-1) if targets.dim() == 2 else losses


def aligned(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Return ``outputs`` in at least float32 and in the shape of the targets, after any leading
    axes.

    An output column of width 1 is dropped where the targets have none; classification keeps its
    classes axis.
    """
    if task not in TASKS:
        raise UserError(f"task={task} is unknown; {nearest(str(task), TASKS)}")
    if outputs.dtype in (torch.float16, torch.bfloat16):
        outputs = outputs.float()  # a mean of half-precision losses loses digits that a gap needs
    if task == "classification":
        fits = targets.dim() == 1 and outputs.dim() >= 2 and outputs.shape[-2] == targets.shape[0]
    else:
        if targets.dim() == 1 and outputs.dim() >= 2 and outputs.shape[-2:] == (targets.shape[0], 1):
            outputs = outputs.squeeze(-1)
        fits = outputs.shape[-targets.dim() :] == targets.shape
    if not fits:
        raise UserError(
            f"{task}: outputs of shape {list(outputs.shape)} do not fit targets of shape {list(targets.shape)}; "
            "check the model's output size and data.target"
        )
    return outputs
