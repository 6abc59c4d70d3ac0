"""Log a run's model in MLflow and register it by a name."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reglab.core.errors import UserError
from reglab.data.new_windows import keys_of
from reglab.inference.find import found, record_of
from reglab.inference.packaged import example_rows, raw_columns, write_package
from reglab.inference.predictor import Predictor

if TYPE_CHECKING:
    from reglab.tracking.mlflow.models import Interface


class Registered(NamedTuple):
    """A version of a registered model.

    Args:
        run: The name of its run.
        model_id: Of the logged model.
        version: Of the registered one.
    """

    run: str
    model_id: str
    version: int


def register(run: str, name: str, alias: str | None = None, uri: str | None = None) -> Registered:
    """Log the model of a run with its signature, linked to its data and metrics, and register it.

    Args:
        run: As for ``reglab.predictor``.
        name: Of the registered model.
        alias: That this version gets.
        uri: Of the store.

    Raises:
        UserError: For a run without a model, or that is in no store.
    """
    from reglab.tracking.mlflow import models

    opened = found(run, None, uri)
    record = record_of(opened.run, uri)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "model"
        write_package(opened.predictor, opened.checkpoint, folder)
        model_id = models.logged_model(record, folder, interface(opened.predictor))
    return Registered(record.name, model_id, models.register(record, model_id, name, alias))


def interface(predictor: Predictor) -> "Interface":
    """Return what MLflow is to know of a model: its raw columns, those of its predictions, and example rows.

    Raises:
        UserError: For a task that predicts each position of a row.
    """
    import pandas as pd

    from reglab.tracking.mlflow.models import Interface

    read = predictor.preprocessing
    columns = raw_columns(read)
    if predictor.task.reads == "dense":
        raise UserError(
            f"{predictor.task.name} predicts each position of a row, for which MLflow's table of predictions has no "
            "columns: reglab export RUN writes a program of it"
        )
    dtype = "int64" if read.tokens else "uint8" if read.reads == "images" else "float32"
    example: Any = pd.DataFrame(example_rows(read)) if columns else np.zeros((1, *read.shape), dtype=dtype)
    predicted = predictor.predict(example)
    texts = {name for name, kind in predicted.dtypes.items() if kind.kind not in "fi"}
    outputs = {str(name): "string" if name in texts else "double" for name in predicted}
    outputs |= dict.fromkeys(outputs.keys() & keys_of(read), "any")  # series and times, as they are given
    return Interface(columns, read.shape, dtype, outputs, example, "reglab.inference.packaged")
