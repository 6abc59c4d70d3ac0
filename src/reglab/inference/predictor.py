"""``Predictor``: a trained model with the preprocessing of its training, for raw rows."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.data.new_columns import table_of
from reglab.data.new_rows import Remarks, array_inputs, table_inputs
from reglab.data.new_windows import last_windows, new_series
from reglab.data.preprocessing import Preprocessing
from reglab.data.queries import Queries, queries_from
from reglab.data.table_keys import group_numbers
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.inference.columns import prediction_columns
from reglab.inference.given_rows import raw_rows
from reglab.measures.evaluate import evaluation_mode, one_tensor, rows_at_once
from reglab.models.each_document import EachDocument
from reglab.tasks import Task, task_named

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)
_ROWS = 4096


class Predictor:
    """Predicts raw rows, as they stand in a file.

    Args:
        model: Trained, in evaluation mode, on the device where it computes.
        preprocessing: Of its training.
        reading: Options by which texts are read; None: those of training.

    Attributes:
        remarks: What is to be told of the rows so far: values that no training row had, missing
            numbers, columns that were ignored.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, reading: Reading | None = None) -> None:
        self.model, self.preprocessing = model, preprocessing
        self.reading = reading or Reading(**preprocessing.reading)
        self.task: Task = task_named(preprocessing.task)
        self.remarks = Remarks()

    def predict(
        self, rows: "pd.DataFrame | NDArray[Any] | Tensor | Mapping[str, Any] | Sequence[Any]"
    ) -> "pd.DataFrame":
        """Return the predictions of rows, a row for each, in the same order.

        Of classes: the class, and the probability of each (``prediction``, ``probability_NAME``);
        of quantities the number in its own unit (``prediction``, ``quantile_0.9``, ``rate``). Of
        series: the forecasts behind the last row of each.

        Args:
            rows: The raw columns by name, in any order, as a frame, a mapping of columns, or a list
                of mappings; those that training did not use are ignored. Of arrays and images
                numbers ``[rows, ...]``, as in training; of several inputs a mapping of such arrays
                by name, or a list of them in their order. Of documents ``[rows, ...]`` or
                ``[queries, documents, ...]``.

        Raises:
            UserError: For a column that is missing, and a value that cannot be read.
        """
        import pandas as pd

        self.remarks = Remarks()
        index = rows.index if isinstance(rows, pd.DataFrame) else None
        raw = raw_rows(self.preprocessing, rows)
        named: Mapping[str, Any] = {}
        if self.preprocessing.windows:
            table = table_of(raw) if isinstance(raw, pd.DataFrame) else raw
            raw, named = last_windows(new_series(self.preprocessing, table, self.reading), table)
            index = None
        outputs = self.outputs(table_of(raw) if isinstance(raw, pd.DataFrame) else raw)
        for line in self.remarks.lines():
            _log.warning("%s", line)
        return pd.DataFrame({**named, **prediction_columns(self.preprocessing, outputs)}, index=index)

    def inputs(self, rows: RawTable | NDArray[Any]) -> Tensor:
        """Return the inputs of the model, ``[rows, *shape]``, of raw rows."""
        if not isinstance(rows, RawTable):
            return torch.from_numpy(array_inputs(self.preprocessing, rows, self.remarks))
        if self.preprocessing.reads != "table":
            raise UserError(
                f"the model takes {self.preprocessing.reads} of the shape {list(self.preprocessing.row_shape)}, and no "
                "columns: give an array [rows, ...]"
            )
        return torch.from_numpy(table_inputs(self.preprocessing, rows, self.reading, self.remarks))

    def outputs(self, rows: RawTable | NDArray[Any]) -> Tensor:
        """Return the outputs of the model, float64 ``[rows, ...]`` on the CPU, targets in the unit
        in which they were trained.

        Args:
            rows: Raw.

        Raises:
            UserError: For rows that the model does not take.
        """
        if self.task.reads != "queries":
            return self._computed(self.model, self.inputs(rows))
        rows, queries = self._documents(rows)
        inputs = self.inputs(rows)
        if isinstance(self.model, EachDocument):
            return self._computed(self.model.scorer, inputs)
        if queries is None:
            name = self.preprocessing.query or "query"
            raise UserError(
                f"the model scores the documents of a query together: give the column {name!r} that tells queries "
                "apart, or an array [queries, documents, ...]"
            )
        padded = queries.padded(inputs, 0.0)
        try:
            return queries.flat(self._computed(self.model, padded))
        except RuntimeError as error:  # of torch, about a shape
            raise UserError(
                f"the model does not take queries of {padded.shape[1]} documents ({str(error).splitlines()[0]}): "
                f"training had at most {self.preprocessing.shape[0]}"
            ) from error

    def query_numbers(self, rows: RawTable | NDArray[Any]) -> NDArray[np.int64]:
        """Return the number of each row's query, ``[rows]``.

        Raises:
            UserError: Where nothing tells it.
        """
        name = self.preprocessing.query
        if not isinstance(rows, RawTable) or name is None or name not in rows.columns:
            raise UserError(f"the rows do not tell their queries: give a table with the column {name or 'of queries'}")
        return group_numbers(rows, name, self.reading, "query")

    def _documents(self, rows: RawTable | NDArray[Any]) -> tuple[RawTable | NDArray[Any], Queries | None]:
        """Return documents, one by one, and of which query each is, where that is told."""
        least = self.preprocessing.shape[0]
        if isinstance(rows, RawTable):
            name = self.preprocessing.query
            if name is None or name not in rows.columns:
                return rows, None
            return rows, queries_from(group_numbers(rows, name, self.reading, "query"), least)
        if rows.ndim < 2 + len(self.preprocessing.row_shape):
            return rows, None
        number = np.arange(len(rows)).repeat(rows.shape[1])
        return rows.reshape(-1, *rows.shape[2:]), queries_from(number, least)

    @property
    def whole(self) -> bool:
        """Whether rows of a file depend on each other, so that they are read at once."""
        together = self.task.reads == "queries" and not isinstance(self.model, EachDocument)
        return together or self.preprocessing.windows is not None

    def _computed(self, model: nn.Module, inputs: Tensor) -> Tensor:
        weight = next(model.parameters(), torch.empty(0))
        if inputs.is_floating_point():
            inputs = inputs.to(weight.dtype)
        with evaluation_mode(model), torch.no_grad():
            batches = torch.split(inputs, rows_at_once(inputs, _ROWS))
            made = [one_tensor(model(batch.to(weight.device)), model).double().cpu() for batch in batches]
        return torch.cat(made)
