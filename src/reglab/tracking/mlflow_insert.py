"""New runs of a SQLite store by plain SQL, as MLflow's client would make them one by one."""

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import DatasetInput
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_USER

from reglab.tracking.mlflow_sql import transaction

_RUN = """
    INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,
        source_version, lifecycle_stage, artifact_uri, experiment_id)
    VALUES (?, ?, 'UNKNOWN', '', '', ?, 'RUNNING', ?, '', 'active', ?, ?)"""
_FIND = "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?"
_DATASET = """
    INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source,
        dataset_schema, dataset_profile)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_INPUT = """
    INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id)
    VALUES (?, 'DATASET', ?, 'RUN', ?)"""


@dataclass(frozen=True)
class NewRun:
    """A run to be made; keys and values as MLflow takes them."""

    run_id: str
    name: str
    artifact_uri: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    inputs: Sequence[DatasetInput]


def insert_runs(path: Path, experiment: str, runs: Sequence[NewRun], now: int) -> None:
    """Make ``runs``, started at ``now`` (milliseconds), in one transaction; a data set that is there is used again.

    Raises sqlite3.Error, with nothing written.
    """
    number = int(experiment)
    with transaction(path) as store:
        store.executemany(
            _RUN, [(run.run_id, run.name, run.tags[MLFLOW_USER], now, run.artifact_uri, number) for run in runs]
        )
        for table, kind in (("params", [run.params for run in runs]), ("tags", [_named(run) for run in runs])):
            rows = [(run.run_id, *item) for run, items in zip(runs, kind, strict=True) for item in items.items()]
            rows.sort(key=lambda row: row[1])  # the order of the tables' primary keys
            store.executemany(f"INSERT INTO {table} (run_uuid, key, value) VALUES (?, ?, ?)", rows)
        known: dict[tuple[str, str], str] = {}
        for run in runs:
            for each in run.inputs:
                _insert_input(store, number, run.run_id, each, known)


def _named(run: NewRun) -> dict[str, str]:
    return {**run.tags, MLFLOW_RUN_NAME: run.name}


def _insert_input(
    store: sqlite3.Connection, experiment: int, run_id: str, given: DatasetInput, known: dict[tuple[str, str], str]
) -> None:
    name = (given.dataset.name, given.dataset.digest)
    if name not in known:
        known[name] = _dataset_id(store, experiment, given)
    input_id = uuid.uuid4().hex
    store.execute(_INPUT, (input_id, known[name], run_id))
    tags = [(input_id, tag.key, tag.value) for tag in given.tags]
    store.executemany("INSERT INTO input_tags (input_uuid, name, value) VALUES (?, ?, ?)", tags)


def _dataset_id(store: sqlite3.Connection, experiment: int, given: DatasetInput) -> str:
    data = given.dataset
    found = store.execute(_FIND, (experiment, data.name, data.digest)).fetchone()
    if found:
        return str(found[0])
    made = uuid.uuid4().hex
    content = (data.name, data.digest, data.source_type, data.source, data.schema, data.profile)
    store.execute(_DATASET, (made, experiment, *content))
    return made
