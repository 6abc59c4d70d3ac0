"""Move many 0-dim tensors to the host in one transfer."""

from collections.abc import Mapping

import torch
from torch import Tensor


def to_floats(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Return 0-dim tensors as floats.

    All go in one copy, so that an accelerator is waited for only once.

    Args:
        metrics: 0-dim tensors by name.

    Returns:
        The same names, with floats.
    """
    if not metrics:
        return {}
    return dict(zip(metrics, torch.stack(list(metrics.values())).tolist(), strict=True))


def table(metrics: Mapping[str, Tensor]) -> tuple[list[str], list[list[float]]]:
    """Return the names of metrics, and each member's row of values, in one transfer.

    Args:
        metrics: ``[members]`` by name, or 0-dim where there is one member.

    Returns:
        The names, and one list of values for each member.

    Example:
        >>> table({"val/loss": torch.tensor([0.5, 0.25]), "gap/loss": torch.tensor([0.125, 0.0])})
        (['val/loss', 'gap/loss'], [[0.5, 0.125], [0.25, 0.0]])
    """
    if not metrics:
        return [], []
    values: list[list[float]] = torch.stack(list(metrics.values()), dim=-1).reshape(-1, len(metrics)).tolist()
    return list(metrics), values
