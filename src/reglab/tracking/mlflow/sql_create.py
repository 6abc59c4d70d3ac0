"""Create runs in a SQLite MLflow store of a known version by plain SQL.

MLflow, which takes seconds, is not imported.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reglab.tracking.dataset import DataSetLike
from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.sql_insert import RUN_NAME, Input, NewRun, insert_runs
from reglab.tracking.opening import StoredRun
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.run_start import Start
from reglab.tracking.settings import TrackingSettings, sqlite_path

PARENT = "mlflow.parentRunId"
_DIGEST_LENGTH = 36  # MLflow's limit
_EXPERIMENT = """
    SELECT experiment_id, artifact_location, lifecycle_stage FROM experiments
    WHERE name = ? AND workspace = 'default'"""


@dataclass(frozen=True)
class DirectStore:
    """An experiment of a SQLite file whose tables are known; its runs have their own ids.

    Args:
        location: The URI under which its runs keep their artifacts.
    """

    path: Path
    experiment: int
    location: str

    def stored_run(self, start: Start) -> StoredRun:
        """Return the id and artifact URI that the run is going to have."""
        return StoredRun(start.run_id, f"{self.location.rstrip('/')}/{start.run_id}/artifacts")

    def create(self, starts: Sequence[Start]) -> list[StoredRun]:
        """Make runs in one transaction, all or none.

        Raises:
            sqlite3.Error: If the store fails.
        """
        stored = [self.stored_run(start) for start in starts]
        runs = [
            NewRun(run.run_id, start.name, run.artifacts, start.params, tags_of(start), inputs_of(start))
            for start, run in zip(starts, stored, strict=True)
        ]
        if starts:
            insert_runs(self.path, self.experiment, runs, starts[0].time)
        return stored


def direct_store(settings: TrackingSettings) -> DirectStore | None:
    """Return the store where its tables are known and its experiment is there.

    None where MLflow is needed.

    Raises:
        UserError: Where the settings name other artifacts than the experiment has.
    """
    path = sqlite_path(settings.uri)
    try:
        if path is None or not path.is_file() or not path.stat().st_size or not sql.is_known(path):
            return None
        with sql.connection(path) as store:
            rows = store.execute(_EXPERIMENT, (settings.experiment,)).fetchall()
    except (OSError, sqlite3.Error, UnicodeError):  # MLflow reports the error
        return None
    if len(rows) != 1 or rows[0][2] != "active" or "?" in rows[0][1] or "#" in rows[0][1]:
        return None
    settings.check_artifacts(rows[0][1])
    return DirectStore(path, int(rows[0][0]), rows[0][1])


def needs_mlflow(run: Start | RunSpec) -> bool:
    """Return whether MLflow has to decide on the run's name: it invents one, or compares two."""
    return not run.name or RUN_NAME in run.tags


def tags_of(start: Start) -> Mapping[str, str]:
    """Return the tags that a run is made with, its parent among them."""
    return {**start.tags, PARENT: start.parent} if start.parent else start.tags


def inputs_of(start: Start) -> list[Input]:
    return dataset_inputs(start.dataset) if start.dataset else []


def dataset_inputs(dataset: DataSetLike, parts: Sequence[str] = ("train", "val", "test")) -> list[Input]:
    """Return one MLflow input for each part, named ``<data set>.<part>``, its context the part.

    MLflow keeps one input for each name and digest, so the parts need different names; the digest
    (the first 36 characters of the data set's) is the same, since it covers all of them. The
    summary becomes the profile.
    """
    source = json.dumps({"tags": {"reglab.data": dataset.name, "reglab.data_digest": dataset.digest}})
    profile = json.dumps(dict(dataset.summary))
    digest = dataset.digest[:_DIGEST_LENGTH]
    return [Input(f"{dataset.name}.{part}", digest, source, profile, part) for part in parts]
