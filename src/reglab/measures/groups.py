"""Losses that compare the rows of a group: their interval is over the groups."""

import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.core.override import typed
from reglab.tasks import Task, task_named

LEAST = 10  # groups, from which on their spread gives an interval


def by_group(values: Tensor, groups: Tensor) -> Tensor:
    """Return a value for each group, ``[..., groups]``, whose mean is that of the rows, and whose
    spread is that of the groups' totals around it.

    Args:
        values: ``[..., rows]``.
        groups: Number of each row's group, int64 ``[rows]`` from 0.

    Source:
        Cochran (1977), Sampling techniques, chapter 9A (ratio estimates of clusters).

    Example:
        >>> by_group(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]))
        tensor([1.6667, 4.3333])
    """
    count, mean = int(groups.max()) + 1, values.mean(-1, keepdim=True)
    totals = values.new_zeros(*values.shape[:-1], count).index_add(-1, groups.to(values.device), values - mean)
    return mean + totals * count / values.shape[-1]


def enough_groups(task: Task | str, rows: int) -> bool:
    """Return whether so many measured rows give an interval of a task's loss: always where each has
    a loss of its own.
    """
    groups = task_named(task).groups(rows)
    return groups is None or int(groups.max()) + 1 >= LEAST


def group_identities(index: Tensor, groups: Tensor) -> Tensor:
    """Return a number for each group by which it is known again, int64 ``[groups]``: that of the
    rows in it.

    Args:
        index: Number of each row in the whole data set, int64 ``[rows]``.
        groups: Number of each row's group, int64 ``[rows]`` from 0.
    """
    mixed = (index + 1) * 0x9E3779B97F4A7C1  # wraps around; sums of it tell sets of rows apart
    totals = torch.zeros(int(groups.max()) + 1, dtype=torch.int64)
    return totals.index_add(0, groups, mixed ^ (mixed >> 29)) & (2**63 - 1)


def check_rows(task: Task | str, rows: int) -> None:
    """Raise UserError where a measured part has too few rows for a task's loss.

    Args:
        task: The task.
        rows: Of the part.
    """
    task = task_named(task)
    if rows < task.fewest and task.fewest > 1:
        smaller = f"{task.name.partition('(')[0]}({max(2, rows // LEAST)})"
        raise UserError(
            f"{task.name} compares the rows of groups of {task.fewest}, and a measured part has {rows}: make it "
            f"larger, or the groups smaller, such as {typed('data.task', smaller)}"
        )
