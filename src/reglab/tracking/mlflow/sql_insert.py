"""SQL inserts of new runs, params, tags and data set inputs."""

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reglab.tracking.mlflow.sql import transaction

RUN_NAME = "mlflow.runName"
CONTEXT = "mlflow.data.context"
SOURCE = "code"  # the type of a data set's source
USER = "mlflow.user"
_RUN = """
    INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,
        source_version, lifecycle_stage, artifact_uri, experiment_id)
    VALUES (?, ?, 'UNKNOWN', '', '', ?, 'RUNNING', ?, '', 'active', ?, ?)"""
_FIND = "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?"
_DATASET = """
    INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source,
        dataset_schema, dataset_profile)
    VALUES (?, ?, ?, ?, ?, ?, NULL, ?)"""
_INPUT = """
    INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id)
    VALUES (?, 'DATASET', ?, 'RUN', ?)"""


@dataclass(frozen=True)
class Input:
    """One part of a data set that a run used.

    Args:
        source and profile: JSON.
    """

    name: str
    digest: str
    source: str
    profile: str
    context: str


@dataclass(frozen=True)
class NewRun:
    """A run to be made; keys and values as MLflow takes them."""

    run_id: str
    name: str
    artifact_uri: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    inputs: Sequence[Input]


def insert_runs(path: Path, experiment: int, runs: Sequence[NewRun], now: int) -> None:
    """Make ``runs``, started at ``now`` (milliseconds), in one transaction.

    A data set that is there is used again.

    Raises:
        sqlite3.Error: With nothing written.
    """
    with transaction(path) as store:
        store.executemany(
            _RUN, [(run.run_id, run.name, run.tags[USER], now, run.artifact_uri, experiment) for run in runs]
        )
        for table, mappings in (("params", [run.params for run in runs]), ("tags", [_named(run) for run in runs])):
            rows = [(run.run_id, *item) for run, items in zip(runs, mappings, strict=True) for item in items.items()]
            rows.sort(key=lambda row: row[1])  # the order of the tables' primary keys
            store.executemany(f"INSERT INTO {table} (run_uuid, key, value) VALUES (?, ?, ?)", rows)
        known: dict[tuple[str, str], str] = {}
        for run in runs:
            for each in run.inputs:
                _insert_input(store, experiment, run.run_id, each, known)


def _named(run: NewRun) -> dict[str, str]:
    return {**run.tags, RUN_NAME: run.name}


def _insert_input(
    store: sqlite3.Connection, experiment: int, run_id: str, given: Input, known: dict[tuple[str, str], str]
) -> None:
    name = (given.name, given.digest)
    if name not in known:
        known[name] = _dataset_id(store, experiment, given)
    input_id = uuid.uuid4().hex
    store.execute(_INPUT, (input_id, known[name], run_id))
    store.execute(
        "INSERT INTO input_tags (input_uuid, name, value) VALUES (?, ?, ?)", (input_id, CONTEXT, given.context)
    )


def _dataset_id(store: sqlite3.Connection, experiment: int, given: Input) -> str:
    row = store.execute(_FIND, (experiment, given.name, given.digest)).fetchone()
    if row:
        return str(row[0])
    dataset_id = uuid.uuid4().hex
    store.execute(_DATASET, (dataset_id, experiment, given.name, given.digest, SOURCE, given.source, given.profile))
    return dataset_id
