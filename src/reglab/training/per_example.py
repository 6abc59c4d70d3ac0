"""Per-example losses and scores of the measured rows, kept as an artifact of the run."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.loggers import Logger, MLFlowLogger
from torch import Tensor

from reglab.analysis.per_example_file import FILE, OUTPUTS, Array, Examples
from reglab.core.metric_direction import SCORES, WEIGHTED
from reglab.data import DataSet, Part
from reglab.measures import Evaluation, MeasureSettings, probe_rows, probe_size, score_name, side
from reglab.measures.contributions import row_terms
from reglab.measures.evaluate import evaluation_of
from reglab.measures.groups import by_group, enough_groups, group_identities
from reglab.tasks import Task, task_named
from reglab.training.lightning_packages import is_lightning


@dataclass(frozen=True)
class SideRows:
    """Which rows one side of a gap is measured on.

    Args:
        index: int64 [rows].
        weight: [rows], None where all are 1.
    """

    index: Array
    weight: Array | None = None


@dataclass(frozen=True)
class MeasuredRows:
    """The rows of both sides of a gap, and what else their examples are made from.

    Args:
        constant: Evaluation of the constant predictor on the validation rows.
        monitor: The metric that decides.
        units: As for ``measures.Side``.
        expected: Float64 [validation rows], the targets without noise; None where not known.
    """

    probe: SideRows
    val: SideRows
    constant: Evaluation
    train_rows: int
    monitor: str = "val/loss"
    units: Tensor | None = None
    expected: Array | None = None


def measured_rows(data: DataSet, settings: MeasureSettings) -> MeasuredRows:
    """Return the rows of the probe and of the validation part, in the order in which they are
    measured.

    Args:
        data: Whose rows are measured.
        settings: With the size of the probe.
    """
    size = probe_size(len(data.train), len(data.val), settings.probe_rows)
    probe = _side_rows(data.train, probe_rows(len(data.train), size, seed=0))
    constant = constant_predictor(data.train.targets, len(data.val), data.outputs, data.criterion)
    evaluation = evaluation_of(constant, data.val.targets.cpu(), data.criterion)
    val = _side_rows(data.val, slice(None))
    expected = None if data.expected is None else data.expected[data.val.index.cpu()].numpy()
    return MeasuredRows(probe, val, evaluation, len(data.train), settings.monitor, data.target_scale, expected)


def _side_rows(part: Part, rows: Tensor | slice) -> SideRows:
    weights = part.weights[rows]
    return SideRows(part.index[rows].numpy(), None if bool((weights == 1).all()) else weights.numpy())


def examples(
    rows: MeasuredRows,
    evaluations: tuple[Evaluation, Evaluation],
    task: Task | str,
    dtype: torch.dtype,
    most_outputs: int = OUTPUTS,
) -> Examples:
    """Return the examples of one model.

    Args:
        rows: Which were measured.
        evaluations: Of the probe, then of the validation part.
        task: Of the data.
        dtype: Of the model.
        most_outputs: The model's outputs on the validation rows are left out where they are more.
    """
    single = [Evaluation(side.losses.unsqueeze(0), side.outputs.unsqueeze(0), side.targets) for side in evaluations]
    return examples_of_members(rows, (single[0], single[1]), task, dtype, most_outputs)[0]


def examples_of_members(
    rows: MeasuredRows,
    evaluations: tuple[Evaluation, Evaluation],
    task: Task | str,
    dtype: torch.dtype,
    most_outputs: int = OUTPUTS,
) -> list[Examples]:
    """Do what ``examples`` does for several models that were evaluated on the same rows.

    Losses are [members, rows], outputs [members, rows, ...]; each is moved to the CPU once, for
    all.
    """
    array_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    probe, val = evaluations
    if not task_named(task).per_example:
        return _examples_by_group(rows, evaluations, task, array_dtype)
    probe_terms, constant = _terms(probe, rows.probe, rows, task), _terms(rows.constant, rows.val, rows, task)
    val_terms = _terms(val, rows.val, rows, task)
    arrays = {f"probe_{name}": _array(probe_terms[name], array_dtype) for name in ("loss", "score")}
    arrays |= {f"val_{name}": _array(values, array_dtype) for name, values in val_terms.items()}
    constant_arrays = {f"val_constant_{name}": _array(values, array_dtype) for name, values in constant.items()}
    kept = val.outputs[0].numel() <= most_outputs
    outputs = _array(val.outputs, torch.float32) if kept else None
    whole = torch.float32 if val.targets.is_floating_point() else torch.int64
    targets = _array(val.targets, whole) if kept else None
    return [
        Examples(
            val_index=rows.val.index,
            probe_index=rows.probe.index,
            val_weight=rows.val.weight,
            probe_weight=rows.probe.weight,
            val_outputs=None if outputs is None else outputs[member],
            val_targets=targets,
            val_expected=rows.expected if kept else None,
            train_rows=np.array(rows.train_rows, dtype=np.int64),
            **{name: values[member] for name, values in arrays.items()},
            **constant_arrays,
        )
        for member in range(len(probe.losses))
    ]


def _examples_by_group(
    rows: MeasuredRows, evaluations: tuple[Evaluation, Evaluation], task: Task | str, array_dtype: torch.dtype
) -> list[Examples]:
    """Return the values of groups of rows, where rows have no loss of their own."""
    parts = (("probe", evaluations[0], rows.probe), ("val", evaluations[1], rows.val))
    sides = (*parts, ("val_constant", rows.constant, rows.val))
    index: dict[str, Array] = {}
    arrays: dict[str, Array] = {}
    for name, evaluation, part in sides:
        groups = task_named(task).groups(len(part.index))
        assert groups is not None
        index[f"{name}_index"] = group_identities(torch.as_tensor(part.index), groups).numpy()
        for key, values in _terms(evaluation, part, rows, task).items():
            arrays[f"{name}_{key}"] = _array(by_group(values, groups), array_dtype)
    arrays = {key: values for key, values in arrays.items() if key != "probe_monitor"}
    constant = {key: arrays.pop(key) for key in list(arrays) if key.startswith("val_constant")}
    del index["val_constant_index"]
    count = np.array(rows.train_rows, dtype=np.int64)
    members = [{key: values[member] for key, values in arrays.items()} for member in range(len(evaluations[0].losses))]
    return [Examples(**index, **each, **constant, train_rows=count) for each in members]


def _terms(evaluation: Evaluation, part: SideRows, rows: MeasuredRows, task: Task | str) -> dict[str, Tensor]:
    """Return each example's terms of the loss, the task's score and, where it is another, the
    monitor.
    """
    device = evaluation.losses.device
    weights = None if part.weight is None else torch.as_tensor(part.weight, device=device)
    measured = side(evaluation, task, 1.0, weights, None if rows.units is None else rows.units.to(device))
    names = {"loss": "loss", "score": score_name(task)}
    monitor = rows.monitor.removeprefix("val/")
    if monitor not in names.values() and monitor.rpartition("/")[2].removeprefix(WEIGHTED) in (
        *SCORES,
        "loss",
    ):  # no user's own
        names["monitor"] = monitor
    return {key: row_terms(name, measured, task) for key, name in names.items()}


def has_examples(task: Task | str, evaluations: Sequence[Evaluation]) -> bool:
    """Return whether there are results by example: by row, or by enough groups of rows.

    Args:
        task: Of the data.
        evaluations: Of the probe and of the validation part.
    """
    return all(enough_groups(task, each.losses.shape[-1]) for each in evaluations)


def constant_predictor(targets: Tensor, rows: int, outputs: int, task: Task | str) -> Tensor:
    """Return the outputs ``[rows, outputs, ...]`` of the task's best constant predictor.

    Args:
        targets: Of the training part, ``[rows, ...]``.
        rows: Number of rows to predict.
        outputs: Width of the outputs.
        task: Which decides the prediction.

    Returns:
        ``[rows, outputs, ...]``.
    """
    prediction = task_named(task).constant(targets, outputs)
    return prediction.expand(rows, *prediction.shape)


def log_examples(loggers: Iterable[Logger], kept: Examples) -> None:
    """Store the examples as an artifact of the run of each of Lightning's ``MLFlowLogger``s.

    Args:
        loggers: Of a trainer.
        kept: The examples.
    """
    for logger in loggers:
        if is_lightning(logger, MLFlowLogger):
            of_mlflow: Any = logger
            with tempfile.TemporaryDirectory() as folder:
                kept.write(Path(folder, FILE))
                of_mlflow.experiment.log_artifact(str(of_mlflow.run_id), str(Path(folder, FILE)))


def _array(values: Tensor, array_dtype: torch.dtype) -> Array:
    array: Array = values.detach().to("cpu", array_dtype).numpy()
    return array
