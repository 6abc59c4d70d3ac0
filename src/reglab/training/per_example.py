"""From what a model, or several, said about the measured rows to the examples that their runs keep."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from pytorch_lightning.loggers import Logger, MLFlowLogger
from torch import Tensor

from reglab.data import DataSet, Part
from reglab.examples import FILE, OUTPUTS, Array, Examples
from reglab.measures import Evaluation, MeasureSettings, Task, probe_rows, probe_size
from reglab.measures.scores import score_terms


@dataclass(frozen=True)
class Numbered:
    """Which rows one side of a gap is measured on. index: int64 [rows]; weight: [rows], None where all are 1."""

    index: Array
    weight: Array | None = None


def numbered(data: DataSet, settings: MeasureSettings) -> tuple[Numbered, Numbered]:
    """Return the rows of the probe and of the validation part, in the order in which they are measured."""
    size = probe_size(len(data.train), len(data.val), settings.probe_rows)
    return _numbered(data.train, probe_rows(len(data.train), size, seed=0)), _numbered(data.val, slice(None))


def _numbered(part: Part, rows: Tensor | slice) -> Numbered:
    weights = part.weights[rows]
    return Numbered(part.index[rows].numpy(), None if bool((weights == 1).all()) else weights.numpy())


def examples(
    rows: tuple[Numbered, Numbered], seen: tuple[Evaluation, Evaluation], task: Task, dtype: torch.dtype
) -> Examples:
    """Return the examples of one model. rows, seen: of the probe, then of the validation part. dtype: of the model."""
    single = [Evaluation(side.losses.unsqueeze(0), side.outputs.unsqueeze(0), side.targets) for side in seen]
    return examples_of_members(rows, (single[0], single[1]), task, dtype)[0]


def examples_of_members(
    rows: tuple[Numbered, Numbered], seen: tuple[Evaluation, Evaluation], task: Task, dtype: torch.dtype
) -> list[Examples]:
    """Do what ``examples`` does for several models that were evaluated on the same rows.

    Losses are [members, rows], outputs [members, rows, ...]; each is moved to the CPU once, for all.
    """
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    probe, val = seen
    losses = [_array(side.losses, kind) for side in seen]
    terms = [_array(score_terms(side.outputs, side.targets, task), kind) for side in seen]
    kept = val.outputs[0].numel() <= OUTPUTS
    outputs = _array(val.outputs, torch.float32) if kept else None
    whole = val.targets.dtype if not val.targets.is_floating_point() else torch.float32
    targets = _array(val.targets, whole) if kept else None
    return [
        Examples(
            val_index=rows[1].index,
            val_loss=losses[1][member],
            val_score=terms[1][member],
            probe_index=rows[0].index,
            probe_loss=losses[0][member],
            probe_score=terms[0][member],
            val_weight=rows[1].weight,
            probe_weight=rows[0].weight,
            val_outputs=None if outputs is None else outputs[member],
            val_targets=targets,
        )
        for member in range(len(probe.losses))
    ]


def log_examples(loggers: Iterable[Logger], kept: Examples) -> None:
    """Store the examples as an artifact of the run of each of Lightning's ``MLFlowLogger``s."""
    for logger in loggers:
        if isinstance(logger, MLFlowLogger):
            with tempfile.TemporaryDirectory() as folder:
                kept.write(Path(folder, FILE))
                logger.experiment.log_artifact(str(logger.run_id), str(Path(folder, FILE)))


def _array(values: Tensor, kind: torch.dtype) -> Array:
    found: Array = values.detach().to("cpu", kind).numpy()
    return found
