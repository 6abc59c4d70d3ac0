"""Opening runs in MLflow: everything known at the start, in few large calls or in one transaction."""

import getpass
import json
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)
from mlflow.utils.uri import append_to_uri_path

from reglab.errors import UserError
from reglab.tracking import mlflow_sql
from reglab.tracking.batch import chunks
from reglab.tracking.drainer import Drainer
from reglab.tracking.folder import Identity, set_aside, write_identity
from reglab.tracking.git import git_tags
from reglab.tracking.keys import store_key
from reglab.tracking.mlflow_data import dataset_inputs
from reglab.tracking.mlflow_insert import NewRun, insert_runs
from reglab.tracking.mlflow_sink import MlflowSink
from reglab.tracking.mlflow_store import UNREACHABLE, connect, experiment_id, reason
from reglab.tracking.params import flatten, shorten, write_config
from reglab.tracking.points import thinning
from reglab.tracking.settings import TrackingSettings, redacted, sqlite_path
from reglab.tracking.spec import RunSpec
from reglab.tracking.tracker import RunTracker

_LONGEST_PARAM = 6_000  # MLflow's limits
_LONGEST_TAG = 8_000
_PARAMS_A_CALL = 100
_TRIES = 5


@dataclass(frozen=True)
class _Start:
    """What MLflow is told of a run when it is made, and the texts too long for it."""

    spec: RunSpec
    params: dict[str, str]
    tags: dict[str, str]
    long: dict[str, dict[str, str]]  # file -> values
    inputs: list[DatasetInput]


def open_runs(settings: TrackingSettings, specs: Sequence[RunSpec]) -> list[RunTracker]:
    """Make MLflow runs with their tags, params, data set and config, and return their trackers, which share a writer.

    Several runs of a known SQLite store are made in one transaction. A param above 6,000 characters stands whole in
    the artifact ``params_long.json``, a tag above 8,000 in ``tags_long.json``. Raises UserError where the store cannot
    be reached.
    """
    client = connect(settings.uri)
    experiment = experiment_id(client, settings)
    own = _own_tags()
    starts = [_start(spec, own) for spec in specs]
    for spec in specs:
        set_aside(spec.folder)
    path = sqlite_path(settings.uri)
    try:
        fast = path is not None and mlflow_sql.is_known(path) and len(specs) > 1 and not any(map(_is_odd, specs))
        made = _insert(client, path, experiment, starts) if path and fast else _call(client, experiment, starts)
    except UNREACHABLE as error:
        names = ", ".join(repr(spec.name) for spec in specs[:3])
        raise UserError(f"{redacted(settings.uri)} did not take the runs {names}: {reason(error)}") from error
    drainer = Drainer(MlflowSink(client, settings.uri))
    written: dict[str, str] = {}
    return [
        _tracker(settings, start, run_id, artifacts, drainer, written)
        for start, (run_id, artifacts) in zip(starts, made, strict=True)
    ]


def sink_of(identity: Identity, folder: Path) -> MlflowSink:
    """Return the sink of a run that was opened before. Raises UserError where it has no store."""
    if identity.uri is None:
        raise UserError(f"the run in {folder} was recorded with tracking=none: there is no store to send it to")
    return MlflowSink(connect(identity.uri, create=False), identity.uri)


def _start(spec: RunSpec, own: Mapping[str, str]) -> _Start:
    tags = {key: str(value) for key, value in spec.tags.items()} | dict(own)
    if spec.parent:
        tags[MLFLOW_PARENT_RUN_ID] = spec.parent
    if spec.dataset is not None:
        tags["reglab.data_digest"] = spec.dataset.digest
    short_tags, long_tags = shorten(tags, _LONGEST_TAG, "tags_long.json")
    short_params, long_params = shorten(flatten(spec.params), _LONGEST_PARAM, "params_long.json")
    return _Start(
        spec,
        {store_key(key): value for key, value in short_params.items()},
        {store_key(key): value for key, value in short_tags.items()},
        {"params_long.json": long_params, "tags_long.json": long_tags},
        dataset_inputs(spec.dataset) if spec.dataset is not None else [],
    )


def _own_tags() -> dict[str, str]:
    return {
        MLFLOW_USER: getpass.getuser(),
        MLFLOW_SOURCE_NAME: Path(sys.argv[0]).name,
        MLFLOW_SOURCE_TYPE: "LOCAL",
        "reglab.version": version("reglab"),
        **git_tags(Path.cwd()),
    }


def _is_odd(spec: RunSpec) -> bool:
    return not spec.name or MLFLOW_RUN_NAME in spec.tags  # MLflow invents a name, or compares the two


def _insert(client: MlflowClient, path: Path, experiment: str, starts: Sequence[_Start]) -> list[tuple[str, str]]:
    location = client.get_experiment(experiment).artifact_location
    made = []
    for _ in starts:
        run_id = uuid.uuid4().hex
        made.append((run_id, append_to_uri_path(location, run_id, "artifacts")))  # type: ignore[no-untyped-call]  # MLflow's
    runs = [
        NewRun(run_id, start.spec.name, artifacts, start.params, start.tags, start.inputs)
        for start, (run_id, artifacts) in zip(starts, made, strict=True)
    ]
    insert_runs(path, experiment, runs, time.time_ns() // 1_000_000)
    return made


def _call(client: MlflowClient, experiment: str, starts: Sequence[_Start]) -> list[tuple[str, str]]:
    made = []
    for start in starts:
        info = client.create_run(experiment, run_name=start.spec.name, tags=start.tags).info
        for some in chunks(start.params.items(), _PARAMS_A_CALL):
            client.log_batch(info.run_id, params=[Param(key, value) for key, value in some])
        if start.inputs:
            _log_inputs(client, info.run_id, start.inputs)
        made.append((info.run_id, info.artifact_uri))
    return made


def _log_inputs(client: MlflowClient, run_id: str, inputs: list[DatasetInput]) -> None:
    """Record the data set. Of two processes that record the same new one at once, MLflow refuses the second: again."""
    for _ in range(_TRIES - 1):
        try:
            return client.log_inputs(run_id, inputs)
        except MlflowException as error:
            if "UNIQUE constraint" not in str(error):
                raise
    return client.log_inputs(run_id, inputs)


def _tracker(
    settings: TrackingSettings, start: _Start, run_id: str, artifacts: str, drainer: Drainer, written: dict[str, str]
) -> RunTracker:
    spec = start.spec
    rule = thinning(settings.points, spec.steps, spec.every)
    identity = Identity(run_id, spec.name, redacted(settings.uri), artifacts, rule.stride, rule.last)
    write_identity(spec.folder, identity)
    tracker = RunTracker(identity, spec.folder, drainer)
    if spec.config:
        write_config(spec.folder / "config.yaml", spec.config, written)
        tracker.artifact(spec.folder / "config.yaml")
    for file, values in start.long.items():
        if values:
            path = spec.folder / file
            path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            tracker.artifact(path)
    return tracker
