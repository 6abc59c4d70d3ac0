"""``Predictor``: a trained model with the preprocessing of its training, for raw rows."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reglab.core.errors import UserError
from reglab.data.new_columns import table_of
from reglab.data.new_rows import Remarks, array_inputs, table_inputs
from reglab.data.preprocessing import Preprocessing
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.measures.evaluate import evaluation_mode, one_tensor, rows_at_once
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

    def predict(self, rows: "pd.DataFrame | NDArray[Any] | Tensor") -> "pd.DataFrame":
        """Return the predictions of rows, a row for each, in the same order.

        Of classes: the class, and the probability of each (``prediction``, ``probability_NAME``);
        of quantities the number in its own unit (``prediction``, ``quantile_0.9``, ``rate``).

        Args:
            rows: The raw columns by name, in any order; those that training did not use are
                ignored. Of arrays and images numbers ``[rows, ...]``, as in training.

        Raises:
            UserError: For a column that is missing, and a value that cannot be read.
        """
        import pandas as pd

        self.remarks = Remarks()
        outputs = self.outputs(table_of(rows) if isinstance(rows, pd.DataFrame) else rows)
        for line in self.remarks.lines():
            _log.warning("%s", line)
        return pd.DataFrame(self.columns(outputs), index=rows.index if isinstance(rows, pd.DataFrame) else None)

    def inputs(self, rows: RawTable | NDArray[Any] | Tensor) -> Tensor:
        """Return the inputs of the model, ``[rows, *shape]``, of raw rows."""
        if isinstance(rows, RawTable):
            if self.preprocessing.reads != "table":
                raise UserError(
                    f"the model takes {self.preprocessing.reads} of the shape {list(self.preprocessing.shape)}, and no "
                    "columns: give an array [rows, ...]"
                )
            return torch.from_numpy(table_inputs(self.preprocessing, rows, self.reading, self.remarks))
        self.remarks.rows += len(rows)
        return torch.from_numpy(array_inputs(self.preprocessing, np.asarray(rows)))

    def outputs(self, rows: RawTable | NDArray[Any] | Tensor) -> Tensor:
        """Return the outputs of the model, float64 ``[rows, ...]`` on the CPU, targets in the unit
        in which they were trained.

        Args:
            rows: Raw.
        """
        inputs = self.inputs(rows)
        weight = next(self.model.parameters(), torch.empty(0))
        if inputs.is_floating_point():
            inputs = inputs.to(weight.dtype)
        with evaluation_mode(self.model), torch.no_grad():
            batches = torch.split(inputs, rows_at_once(inputs, _ROWS))
            made = [one_tensor(self.model(batch.to(weight.device)), self.model).double().cpu() for batch in batches]
        return torch.cat(made)

    def columns(self, outputs: Tensor) -> Mapping[str, Any]:
        """Return the predictions by name, ``[rows]`` each, of outputs ``[rows, ...]``."""
        names = self.preprocessing.target_names
        probabilities = self.task.probabilities(outputs)
        if self.task.reads == "dense":
            raise UserError(
                f"{self.task.name} predicts each position of a row, for which there are no columns: use the model, "
                "reglab.load(RUN)"
            )
        if probabilities is None:
            quantities = self.task.quantities(self._in_units(outputs), names)
            return {name: values.numpy() for name, values in quantities.items()}
        each = {f"probability_{name}": probabilities[:, column].numpy() for column, name in enumerate(names)}
        if self.task.reads == "labels":
            decided = {
                f"prediction_{name}": (outputs[:, column] > 0).long().numpy() for column, name in enumerate(names)
            }
            return decided | each
        decisions = self.task.decide(outputs if self.task.exclusive else outputs.reshape(len(outputs)))
        return {"prediction": np.array(names, dtype=object)[decisions.numpy()], **each}

    def _in_units(self, outputs: Tensor) -> Tensor:
        """Return outputs in the unit that the targets had before they were standardized."""
        if not self.preprocessing.target_scale:
            return outputs
        center, scale = (
            torch.tensor(values, dtype=torch.float64)
            for values in (self.preprocessing.target_center, self.preprocessing.target_scale)
        )
        return outputs.reshape(len(outputs), -1) * scale + center
