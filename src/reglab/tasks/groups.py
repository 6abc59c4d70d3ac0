"""Fixed groups of rows, for losses that compare the rows of a group."""

import torch
from torch import Tensor

from reglab.rng import counter_rng


def order_of(rows: int) -> Tensor:
    """Return the order in which rows are cut into groups: int64 ``[rows]``, by counter."""
    return counter_rng.permutation(counter_rng.key(0, counter_rng.name_number("groups")), rows)


def groups_of(rows: int, size: int) -> Tensor:
    """Return the number of each row's group of ``size`` rows, int64 ``[rows]``.

    Example:
        >>> groups_of(5, 2).bincount()
        tensor([2, 2, 1])
    """
    numbers = torch.empty(rows, dtype=torch.int64)
    numbers[order_of(rows)] = torch.arange(rows) // size
    return numbers


def filled_groups(rows: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the rows of each group, and where each row stands among them.

    Rows that are left over form a last group, which rows of other groups fill up: so each row is
    compared with equally many.

    Args:
        rows: Their number, at least ``size``.
        size: Rows of a group.

    Returns:
        Row numbers, int64 ``[groups, size]``, and int64 ``[rows]``, by which the values of the
        groups, flat, come back in the order of the rows.
    """
    order = order_of(rows)
    filled = torch.cat([order, order[: -rows % size]])
    return filled.reshape(-1, size), order.argsort()
