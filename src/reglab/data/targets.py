"""Targets as tensors for the loss; standardization of regression targets."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reglab.core.errors import UserError
from reglab.data.source import Floats, Integers, Source
from reglab.tasks import task_named


@dataclass(frozen=True)
class Targets:
    """Typed targets of all rows (see ``Part``), output width, and scale.

    Args:
        summary: The mean and deviation of each column.
        scale: The deviations, float64 [columns]; None if nothing was.
    """

    values: Tensor
    outputs: int
    summary: dict[str, float]
    scale: Tensor | None = None


def prepare_targets(source: Source, train: Integers) -> Targets:
    """Return the targets as tensors, regression ones standardized by the rows ``train``.

    Label noise comes later: the scale is that of the clean targets, so losses compare across noise
    rates.

    Args:
        source: Raw targets.
        train: int64 row numbers of the training part.

    Raises:
        UserError: If all training rows have the same target.
    """
    task, names = task_named(source.task), len(source.target_names)
    if task.integers:
        return Targets(torch.from_numpy(source.targets.astype(np.int64)), task.outputs(names, 1), {})
    values = source.targets.astype(np.float64)
    _check_varies(values[train][:, :1] if task.reads == "times" else values[train], source)
    summary: dict[str, float] = {}
    target_scale: Tensor | None = None
    scaled = task.scaled(1 if values.ndim == 1 else values.shape[1])
    if any(scaled) and source.standardize_target:
        center, scale = values[train].mean(axis=0), values[train].std(axis=0)
        if not all(scaled):
            center, scale = np.where(scaled, center, 0.0), np.where(scaled, scale, 1.0)
        values = (values - center) / scale
        summary = _scale_summary(center, scale, source.target_names, scaled)
        target_scale = torch.from_numpy(np.atleast_1d(scale))
    outputs = task.outputs(names, 1 if values.ndim == 1 else values.shape[1])
    return Targets(torch.from_numpy(values.astype(np.float32)), outputs, summary, target_scale)


def _check_varies(values: Floats, source: Source) -> None:
    columns = values.reshape(len(values), -1)
    for name, column in zip(source.target_names, columns.T, strict=False):
        if column.min() == column.max():
            raise UserError(
                f"the target {name!r} is {column[0]:g} in every one of the {len(column)} training rows: there is "
                "nothing to learn. Choose another target, another split or a larger data.train_size"
            )


def _scale_summary(center: Floats, scale: Floats, names: tuple[str, ...], scaled: list[bool]) -> dict[str, float]:
    summary: dict[str, float] = {}
    for name, mean, deviation, changed in zip(names, np.atleast_1d(center), np.atleast_1d(scale), scaled, strict=True):
        if changed:
            summary |= {f"target_mean.{name}": float(mean), f"target_std.{name}": float(deviation)}
    return summary
