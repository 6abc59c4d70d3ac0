"""Columns of predictions, by task, of a model's outputs."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reglab.core.errors import UserError
from reglab.data.preprocessing import Preprocessing
from reglab.tasks import Task, task_named
from reglab.tasks.multi import Multi

Columns = dict[str, NDArray[np.generic]]


def prediction_columns(preprocessing: Preprocessing, outputs: Tensor) -> Columns:
    """Return predictions by name, ``[rows]`` each; targets in the unit that they had in the file.

    Args:
        preprocessing: Of training.
        outputs: Of the model, float64 ``[rows, ...]``.

    Raises:
        UserError: For a task that predicts each position of a row.
    """
    task, read = task_named(preprocessing.task), preprocessing
    if task.reads == "dense":
        raise UserError(
            f"{task.name} predicts each position of a row, for which there are no columns: use the model, "
            "reglab.load(RUN)"
        )
    scaled = bool(read.target_scale)
    if not isinstance(task, Multi):
        return _of_task(task, _in_units(outputs, read.target_center, read.target_scale), read.target_names)
    columns: Columns = {}
    blocks = outputs.split([target.width for target in task.targets], -1)  # type: ignore[no-untyped-call]  # torch's
    for number, (target, block) in enumerate(zip(task.targets, blocks, strict=True)):
        ends = slice(number, number + 1)
        units = (read.target_center[ends], read.target_scale[ends]) if scaled else ((), ())
        classes = read.class_names[number] if number < len(read.class_names) else ()
        for name, values in _of_task(target.task, _in_units(block, *units), classes or (target.name,)).items():
            kind, _, of_class = name.partition("_") if classes else (name, "", "")
            columns["_".join(filter(None, (kind, target.name, of_class)))] = values
    return columns


def _of_task(task: Task, outputs: Tensor, names: Sequence[str]) -> Columns:
    probabilities = task.probabilities(outputs)
    if probabilities is None:
        return {name: values.numpy() for name, values in task.quantities(outputs, names).items()}
    each = {f"probability_{name}": probabilities[:, column].numpy() for column, name in enumerate(names)}
    if task.reads == "labels":
        decided = {f"prediction_{name}": (outputs[:, column] > 0).long().numpy() for column, name in enumerate(names)}
        return decided | each
    decisions = task.decide(outputs if task.exclusive else outputs.reshape(len(outputs)))
    return {"prediction": np.array(names, dtype=object)[decisions.numpy()], **each}


def _in_units(outputs: Tensor, center: Sequence[float], scale: Sequence[float]) -> Tensor:
    """Return outputs in the unit that the targets had before they were standardized."""
    if not scale:
        return outputs
    by, around = (torch.tensor(values, dtype=torch.float64) for values in (scale, center))
    return outputs.reshape(len(outputs), -1) * by + around
