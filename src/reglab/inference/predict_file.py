"""Predict a file of rows piece by piece: memory stays flat however large it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reglab.analysis.formatting import number
from reglab.core.errors import UserError
from reglab.data.table_file import check_columns
from reglab.data.table_raw import RawTable
from reglab.inference.output_file import output_file
from reglab.inference.predictor import Predictor
from reglab.inference.row_files import pieces
from reglab.inference.targets import NewTargets, new_targets


@dataclass
class _Score:
    """Sums of what is measured of the rows with a target."""

    rows: int = 0
    loss: float = 0.0
    right: float = 0.0

    def add(self, predictor: Predictor, outputs: Tensor, targets: NewTargets) -> None:
        """Add the rows of a piece."""
        if not len(targets.values):
            return
        task = predictor.task
        aligned = task.align(outputs[torch.from_numpy(targets.known)], targets.values)
        self.rows += len(targets.values)
        self.loss += float(task.losses(aligned, targets.values).sum())
        self.right += float(task.shares(aligned, targets.values).sum()) if task.decides else 0.0

    def line(self, predictor: Predictor, rows: int) -> str:
        """Return the sentence about them."""
        found = f"loss {number(self.loss / self.rows)}"
        if predictor.task.decides:
            found = f"accuracy {number(self.right / self.rows)}, {found}"
        return f"on the {self.rows} of {rows} rows with a known target: {found} (reglab test has intervals)"


def predict_file(predictor: Predictor, path: Path, out: Path, keep: Sequence[str] = ()) -> list[str]:
    """Write the predictions of all rows of a file, a row for each, in the same order.

    Args:
        predictor: Of the run.
        path: A table, a ``.npy`` file, or a folder of images.
        out: A file that is not there yet.
        keep: Columns of the table that are written too, in front.

    Returns:
        What is to be told, a sentence each.

    Raises:
        UserError: For what cannot be read.
    """
    score = _Score()
    with output_file(out) as write:
        for rows, named in pieces(path, predictor.preprocessing, predictor.reading):
            outputs = predictor.outputs(rows)
            write({**named, **_kept(rows, keep), **predictor.columns(outputs)})
            if isinstance(rows, RawTable):
                targets = new_targets(predictor.preprocessing, rows, predictor.reading)
                if targets is not None:
                    score.add(predictor, outputs, targets)
    remarks = predictor.remarks
    for name in keep:
        remarks.extra.pop(name, None)
    return remarks.lines() + ([score.line(predictor, remarks.rows)] if score.rows else [])


def _kept(rows: RawTable | Any, keep: Sequence[str]) -> Mapping[str, Any]:
    """Return the columns to be kept, as they stand in the file."""
    if not keep:
        return {}
    if not isinstance(rows, RawTable):
        raise UserError("keep=... names columns of a table, and there are none here: leave it out")
    names = check_columns(rows.columns, "keep", keep)
    columns = {name: rows.columns[name] for name in names}
    return {
        name: column.to_pandas() if hasattr(column, "chunks") else column.to_numpy() for name, column in columns.items()
    }
