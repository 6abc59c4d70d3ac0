"""Per-example loss of every task."""

from torch import Tensor

from reglab.tasks import Task, task_named


def example_losses(outputs: Tensor, targets: Tensor, task: Task | str) -> Tensor:
    """Return the loss of each example, ``[..., rows]``, in at least float32.

    What it is stands with each task in ``reglab.tasks``; shapes too. Outputs may have leading axes
    (members of a pack); targets are shared by them.

    Args:
        outputs: ``[..., rows, ...]``.
        targets: ``[rows, ...]``.
        task: Which decides the loss.

    Returns:
        ``[..., rows]``.

    Raises:
        UserError: For shapes that do not fit each other and for an unknown task.

    Example:
        >>> import torch
        >>> example_losses(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), "classification")
        tensor([0.6931])
        >>> example_losses(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]), "regression")
        tensor([0., 4.])
    """
    task = task_named(task)
    return task.losses(task.align(outputs, targets), targets)


def aligned(outputs: Tensor, targets: Tensor, task: Task | str) -> Tensor:
    """Return ``outputs`` in at least float32 and in the shape that the task's losses take."""
    return task_named(task).align(outputs, targets)
