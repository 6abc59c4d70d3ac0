"""Models in MLflow: logged with a signature, linked to their run, its data and its metrics, and
registered by a name.
"""

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema, TensorSpec

from reglab.core.errors import UserError
from reglab.tracking.artifacts import local_home
from reglab.tracking.mlflow.store import UNREACHABLE, connect, reason
from reglab.tracking.run_record import RunRecord
from reglab.tracking.settings import client_uri, redacted
from reglab.tracking.store_gate import check_artifact_store

for _name in ("mlflow.pyfunc", "mlflow.models.utils"):
    logging.getLogger(_name).setLevel(logging.WARNING)
_DEFAULT = "MLFLOW_TRACKING_URI"
_MODEL = "reglab.model"  # tag of a run with the id of its logged model, and the epoch of its weights


class Interface(NamedTuple):
    """What a model takes and gives.

    Args:
        columns: The type of each raw column: ``double``, ``string`` or ``any``; empty: an array.
        shape: Of a row of an array.
        dtype: Of an array, as numpy calls it.
        outputs: The type of each column of predictions.
        example: A row.
        loader: The module that loads it.
    """

    columns: Mapping[str, str]
    shape: Sequence[int]
    dtype: str
    outputs: Mapping[str, str]
    example: Any
    loader: str


def logged_model(record: RunRecord, folder: Path, interface: Interface) -> str:
    """Return the id of the run's model in MLflow, logging it unless it is, with these weights.

    Args:
        record: Of the run.
        folder: With the model's files.
        interface: Of the model.

    Raises:
        UserError: Where the store does not take it.
    """
    client = connect(record.uri, create=False)
    try:
        run = client.get_run(record.run_id)
        known, _, epoch = run.data.tags.get(_MODEL, "").partition(" ")
        if epoch == _epoch(run) and run.outputs and known in {each.model_id for each in run.outputs.model_outputs}:
            return known
        return _log(client, record, run, folder, interface)
    except UNREACHABLE as error:
        raise UserError(f"{redacted(record.uri)} did not take the model of {record.name}: {reason(error)}") from error


def _log(client: MlflowClient, record: RunRecord, run: Run, folder: Path, interface: Interface) -> str:
    name = re.sub(r"[/:.%\"']", "_", record.name)  # which MLflow takes in no name of a model
    model = client.create_logged_model(run.info.experiment_id, name, source_run_id=record.run_id, model_type="reglab")
    check_artifact_store(model.artifact_location, record.uri)
    local_home(model.artifact_location, model.model_id)
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow, about type hints of its own and of ``any``
        from mlflow.pyfunc import save_model

        home = Path(made) / "model"
        save_model(
            str(home),
            loader_module=interface.loader,
            data_path=str(folder),
            mlflow_model=Model(run_id=record.run_id, model_id=model.model_id),
            signature=_signature(interface),
            input_example=interface.example,
            pip_requirements=[f"{name}=={version(name)}" for name in ("reglab", "torch", "mlflow")],
        )
        client.log_model_artifacts(model.model_id, str(home))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(record.run_id, [LoggedModelOutput(model.model_id, 0)])
    client.log_batch(record.run_id, metrics=_metrics(run, model.model_id))
    client.set_tag(record.run_id, _MODEL, f"{model.model_id} {_epoch(run)}")
    return str(model.model_id)


def _epoch(run: Run) -> str:
    """Return the epoch that the run stands for: one that is trained longer has another model."""
    return f"{run.data.metrics.get('final/epoch', 0):g}"


def _metrics(run: Run, model_id: str) -> list[Metric]:
    """Return what the run reached, as it is in the run, linked to the model and the part of the data."""
    parts = {
        tag.value: given.dataset
        for given in (run.inputs.dataset_inputs if run.inputs else [])
        for tag in given.tags
        if tag.key == "mlflow.data.context"
    }
    linked = []
    for metric in run.data._metric_objs:
        words = metric.key.split("/")
        if words[0] not in ("final", "test"):
            continue
        part = parts.get(words[0] if words[0] == "test" else words[1])
        name, digest = (part.name, part.digest) if part else (None, None)
        linked.append(
            Metric(metric.key, metric.value, metric.timestamp, metric.step, model_id, name, digest, run.info.run_id)
        )
    return linked


def _signature(interface: Interface) -> ModelSignature:
    types: dict[str, Any] = {"double": DataType.double, "string": DataType.string, "any": AnyType()}  # type: ignore[no-untyped-call]
    outputs = Schema([ColSpec(types[kind], name) for name, kind in interface.outputs.items()])
    if not interface.columns:
        import numpy as np

        return ModelSignature(Schema([TensorSpec(np.dtype(interface.dtype), (-1, *interface.shape))]), outputs)
    return ModelSignature(Schema([ColSpec(types[kind], name) for name, kind in interface.columns.items()]), outputs)


def register(record: RunRecord, model_id: str, name: str, alias: str | None) -> int:
    """Register a logged model and return the number of its version; the same one is registered once.

    Args:
        record: Of the run.
        model_id: Of its model.
        name: Under which it is registered.
        alias: That the version gets; None: none.

    Raises:
        UserError: Where the store does not take it.
    """
    client = connect(record.uri, create=False)
    try:
        try:
            client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            client.create_registered_model(name)
        versions = client.search_model_versions(f"name = '{name}'")
        source = f"models:/{model_id}"
        number = next((each.version for each in versions if each.source == source), None)
        if number is None:
            with _default_store(record.uri):
                number = client.create_model_version(name, source, record.run_id, model_id=model_id).version
        if alias is not None:
            client.set_registered_model_alias(name, alias, str(number))
        return int(number)
    except UNREACHABLE as error:
        raise UserError(f"{redacted(record.uri)} did not register {name}: {reason(error)}") from error


@contextmanager
def _default_store(uri: str) -> Iterator[None]:
    """Make ``uri`` the store that MLflow's registry of a local store asks for a logged model."""
    variable = os.environ.pop(_DEFAULT, None)  # what a program chose itself comes before it
    chosen: Any = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None  # type: ignore[no-untyped-call]
    mlflow.set_tracking_uri(client_uri(uri))
    try:
        yield
    finally:
        mlflow.set_tracking_uri(chosen)
        os.environ.pop(_DEFAULT, None)
        os.environ |= {} if variable is None else {_DEFAULT: variable}
