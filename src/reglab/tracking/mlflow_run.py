"""Opening a run in MLflow: everything known at the start, in few large calls."""

import getpass
import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from reglab.errors import UserError
from reglab.tracking.batch import chunks
from reglab.tracking.dataset import DataSetLike
from reglab.tracking.folder import Identity, set_aside, write_identity
from reglab.tracking.git import git_tags
from reglab.tracking.keys import store_key
from reglab.tracking.mlflow_data import dataset_inputs
from reglab.tracking.mlflow_sink import MlflowSink
from reglab.tracking.mlflow_store import UNREACHABLE, connect, experiment_id, reason
from reglab.tracking.params import flatten, shorten, write_config
from reglab.tracking.settings import TrackingSettings, redacted
from reglab.tracking.tracker import RunTracker

_LONGEST_PARAM = 6_000  # MLflow's limits
_LONGEST_TAG = 8_000
_PARAMS_A_CALL = 100
_TRIES = 5


def open_run(
    settings: TrackingSettings,
    *,
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    dataset: DataSetLike | None,
    parent: str | None,
) -> RunTracker:
    """Make an MLflow run with its tags, params, data set and config, and return its tracker.

    A param above 6,000 characters stands whole in the artifact ``params_long.json``, a tag above 8,000 in
    ``tags_long.json``. Raises UserError where the store cannot be reached.
    """
    client = connect(settings.uri)
    experiment = experiment_id(client, settings)
    all_tags = {key: str(value) for key, value in tags.items()} | _own_tags(dataset, parent)
    short_tags, long_tags = shorten(all_tags, _LONGEST_TAG, "tags_long.json")
    short_params, long_params = shorten(flatten(params), _LONGEST_PARAM, "params_long.json")
    set_aside(folder)
    try:
        run = client.create_run(experiment, run_name=name, tags={store_key(k): v for k, v in short_tags.items()})
        run_id = run.info.run_id
        _log_params(client, run_id, short_params)
        if dataset is not None:
            _log_inputs(client, run_id, dataset)
    except UNREACHABLE as error:
        raise UserError(f"{redacted(settings.uri)} did not take the run {name!r}: {reason(error)}") from error
    write_identity(folder, Identity(run_id, name, redacted(settings.uri), run.info.artifact_uri))
    sink = MlflowSink(client, settings.uri, run_id, folder, run.info.artifact_uri)
    tracker = RunTracker(run_id, folder, sink)
    if config:
        write_config(folder / "config.yaml", config)
        tracker.artifact(folder / "config.yaml")
    _keep_whole(tracker, "params_long.json", long_params)
    _keep_whole(tracker, "tags_long.json", long_tags)
    return tracker


def sink_of(identity: Identity, folder: Path) -> MlflowSink:
    """Return the sink of a run that was opened before. Raises UserError where it has no store."""
    if identity.uri is None:
        raise UserError(f"the run in {folder} was recorded with tracking=none: there is no store to send it to")
    return MlflowSink(connect(identity.uri, create=False), identity.uri, identity.run_id, folder, identity.artifacts)


def _own_tags(dataset: DataSetLike | None, parent: str | None) -> dict[str, str]:
    tags = {
        MLFLOW_USER: getpass.getuser(),
        MLFLOW_SOURCE_NAME: Path(sys.argv[0]).name,
        MLFLOW_SOURCE_TYPE: "LOCAL",
        "reglab.version": version("reglab"),
        **git_tags(Path.cwd()),
    }
    if parent:
        tags[MLFLOW_PARENT_RUN_ID] = parent
    if dataset is not None:
        tags["reglab.data_digest"] = dataset.digest
    return tags


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    for some in chunks(params.items(), _PARAMS_A_CALL):
        client.log_batch(run_id, params=[Param(store_key(key), value) for key, value in some])


def _log_inputs(client: MlflowClient, run_id: str, dataset: DataSetLike) -> None:
    """Record the data set. Of two processes that record the same new one at once, MLflow refuses the second: again."""
    inputs = dataset_inputs(dataset)
    for _ in range(_TRIES - 1):
        try:
            return client.log_inputs(run_id, inputs)
        except MlflowException as error:
            if "UNIQUE constraint" not in str(error):
                raise
    return client.log_inputs(run_id, inputs)


def _keep_whole(tracker: RunTracker, file: str, values: Mapping[str, str]) -> None:
    if values:
        path = tracker.folder / file
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        tracker.artifact(path)
