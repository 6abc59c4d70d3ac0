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
from reglab.inference.columns import prediction_columns
from reglab.inference.output_file import output_file
from reglab.inference.predictor import Predictor
from reglab.inference.row_files import pieces
from reglab.inference.targets import new_targets


@dataclass
class _Score:
    """Sums of what is measured of the rows with a target, and what keeps from it."""

    rows: int = 0
    loss: float = 0.0
    right: float = 0.0
    wrong: str = ""

    def add(self, predictor: Predictor, outputs: Tensor, table: RawTable) -> None:
        """Add the rows of a piece; a target that cannot be read keeps nobody from predictions."""
        try:
            targets = new_targets(predictor.preprocessing, table, predictor.reading)
        except UserError as error:
            self.wrong = self.wrong or f"the target cannot be read, so there is no score: {error}"
            return
        if targets is None or not len(targets.values):
            return
        task = predictor.task
        aligned = task.align(outputs[torch.from_numpy(targets.known)], targets.values)
        self.rows += len(targets.values)
        self.loss += float(task.losses(aligned, targets.values).sum())
        self.right += float(task.shares(aligned, targets.values).sum()) if task.decides else 0.0

    def lines(self, predictor: Predictor, rows: int) -> list[str]:
        """Return the sentence about them."""
        if self.wrong or not self.rows:
            return [self.wrong] if self.wrong else []
        found = f"loss {number(self.loss / self.rows)}"
        if predictor.task.decides:
            found = f"accuracy {number(self.right / self.rows)}, {found}"
        return [f"on the {self.rows} of {rows} rows with a known target: {found} (reglab test has intervals)"]


def predict_file(predictor: Predictor, path: Path, out: Path, keep: Sequence[str] = ()) -> list[str]:
    """Write the predictions of all rows of a file, a row for each, in the same order.

    Args:
        predictor: Of the run.
        path: A table, a ``.npy`` file, a folder of images, or series.
        out: A file that is not there yet.
        keep: Columns of the table that are written too, in front.

    Returns:
        What is to be told, a sentence each.

    Raises:
        UserError: For what cannot be read.
    """
    score = _Score()
    with output_file(out) as write:
        for rows, named, _ in pieces(path, predictor):
            outputs = predictor.outputs(rows)
            write({**named, **_kept(rows, keep), **prediction_columns(predictor.preprocessing, outputs)})
            if isinstance(rows, RawTable) and predictor.task.per_example and predictor.task.reads != "queries":
                score.add(predictor, outputs, rows)
    remarks = predictor.remarks
    for name in keep:
        remarks.extra.pop(name, None)
    about = [predictor.task.of_predictions] if predictor.task.of_predictions else []
    return remarks.lines() + about + score.lines(predictor, remarks.rows)


def _kept(rows: RawTable | Any, keep: Sequence[str]) -> Mapping[str, Any]:
    """Return the columns to be kept, as they stand in the file."""
    if not keep:
        return {}
    if not isinstance(rows, RawTable):
        raise UserError("keep=... names columns of a table whose rows are predicted, and here are none: leave it out")
    names = check_columns(rows.columns, "keep", keep)
    columns = {name: rows.columns[name] for name in names}
    return {
        name: column.to_pandas() if hasattr(column, "chunks") else column.to_numpy() for name, column in columns.items()
    }
