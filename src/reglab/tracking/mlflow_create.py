"""Making runs in an MLflow store from what they start with: in one transaction, or by MLflow's own calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Param, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from mlflow.utils.uri import append_to_uri_path

from reglab.tracking import mlflow_sql
from reglab.tracking.batch import chunks
from reglab.tracking.mlflow_data import dataset_inputs
from reglab.tracking.mlflow_insert import NewRun, insert_runs
from reglab.tracking.mlflow_store import connect, experiment
from reglab.tracking.settings import TrackingSettings, sqlite_path
from reglab.tracking.start import Start

LOCAL_ID = "reglab.local_id"  # the own id of a run that a server numbered by itself: by it a run is made only once
_PARAMS_A_CALL = 100
_TRIES = 5


@dataclass(frozen=True)
class Made:
    """A run in a store."""

    run_id: str
    artifacts: str


class Maker:
    """Makes runs in the experiment that ``settings`` name. Raises UserError where there is no such store.

    direct: it is a SQLite file of the known version, in which runs have their own ids, so making one again is noticed.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self.client = connect(settings.uri)
        found = experiment(self.client, settings)
        self._experiment, self._location = str(found.experiment_id), found.artifact_location
        path = sqlite_path(settings.uri)
        self._path = path if path and mlflow_sql.is_known(path) else None

    def is_direct(self, starts: Sequence[Start]) -> bool:
        """Return whether ``starts`` are made in one transaction, all or none, under their own ids."""
        return self._path is not None and not any(map(_is_odd, starts))

    def place(self, start: Start) -> Made:
        """Return what a run that is made directly is going to be."""
        return Made(start.run_id, append_to_uri_path(self._location, start.run_id, "artifacts"))  # type: ignore[no-untyped-call]  # MLflow's

    def make(self, starts: Sequence[Start]) -> list[Made]:
        """Make runs that were never tried to be made before. Raises what MLflow and SQLite raise."""
        if self._path and self.is_direct(starts):
            return self._insert(self._path, starts)
        return [self._complete(start, self._create(start)) for start in starts]

    def find(self, start: Start) -> Made | None:
        """Return the run if the store has it, perhaps only in part."""
        run = self._found(start)
        return Made(run.info.run_id, run.info.artifact_uri) if run else None

    def make_once(self, start: Start) -> Made:
        """Make a run, or complete it if an earlier try made it, wherever death came in between."""
        run = self._found(start)
        if self._path and self.is_direct([start]):
            return Made(run.info.run_id, run.info.artifact_uri) if run else self._insert(self._path, [start])[0]
        return self._complete(start, run or self._create(start))

    def store_id(self, local_id: str) -> str | None:
        """Return the id under which the store has the run whose own id is ``local_id``; None if it has none."""
        try:
            return str(self.client.get_run(local_id).info.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        where = f"tags.`{LOCAL_ID}` = '{local_id}'"
        experiments = [str(each.experiment_id) for each in self.client.search_experiments()]
        return next((str(run.info.run_id) for run in self.client.search_runs(experiments, where)), None)

    def _found(self, start: Start) -> Run | None:
        if self._path and self.is_direct([start]):
            return _or_none(lambda: self.client.get_run(start.run_id))
        where = f"tags.`{LOCAL_ID}` = '{start.run_id}'"
        found = self.client.search_runs([self._experiment], where, ViewType.ALL, max_results=1)
        return found[0] if found else None

    def _insert(self, path: Path, starts: Sequence[Start]) -> list[Made]:
        made = [self.place(start) for start in starts]
        runs = [
            NewRun(one.run_id, start.name, one.artifacts, start.params, _tags(start), _inputs(start))
            for start, one in zip(starts, made, strict=True)
        ]
        if starts:
            insert_runs(path, self._experiment, runs, starts[0].time)
        return made

    def _create(self, start: Start) -> Run:
        tags = {**_tags(start), LOCAL_ID: start.run_id}
        return self.client.create_run(self._experiment, start.time, tags, run_name=start.name)

    def _complete(self, start: Start, run: Run) -> Made:
        for some in chunks(start.params.items(), _PARAMS_A_CALL):
            self.client.log_batch(run.info.run_id, params=[Param(key, value) for key, value in some])
        if inputs := _inputs(start):
            _log_inputs(self.client, run.info.run_id, inputs)
        return Made(run.info.run_id, run.info.artifact_uri)


def _tags(start: Start) -> Mapping[str, str]:
    return {**start.tags, MLFLOW_PARENT_RUN_ID: start.parent} if start.parent else start.tags


def _inputs(start: Start) -> list[DatasetInput]:
    return dataset_inputs(start.dataset) if start.dataset else []


def _is_odd(start: Start) -> bool:
    return not start.name or MLFLOW_RUN_NAME in start.tags  # MLflow invents a name, or compares the two


def _or_none(ask: Callable[[], Run]) -> Run | None:
    try:
        return ask()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _log_inputs(client: MlflowClient, run_id: str, inputs: list[DatasetInput]) -> None:
    """Record the data set. Of two processes that record the same new one at once, MLflow refuses the second: again."""
    for _ in range(_TRIES - 1):
        try:
            return client.log_inputs(run_id, inputs)
        except MlflowException as error:
            if "unique constraint" not in str(error).lower():  # SQLite and PostgreSQL write it differently
                raise
    return client.log_inputs(run_id, inputs)
