"""Create runs in an MLflow store from their ``start.json``, by plain SQL or MLflow's client."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Param, Run, ViewType
from mlflow.exceptions import MlflowException

from reglab.tracking.mlflow.sql_create import DirectStore, direct_store, inputs_of, needs_mlflow, tags_of
from reglab.tracking.mlflow.sql_insert import CONTEXT, SOURCE, Input
from reglab.tracking.mlflow.store import UNREACHABLE, connect, experiment
from reglab.tracking.opening import StoredRun
from reglab.tracking.payload import chunks
from reglab.tracking.run_start import Start
from reglab.tracking.settings import TrackingSettings, sqlite_path

# The own id of a run that a server numbered by itself: by it a run is made only once.
LOCAL_ID = "reglab.local_id"
_PARAMS_A_CALL = 100
_TRIES = 5


class RunCreator:
    """Makes runs in the experiment that ``settings`` name.

    Attributes:
        direct: The store where it is a SQLite file of the known version, in which runs have their
            own ids, so that making one again is noticed.

    Raises:
        UserError: Where there is no such store.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self.client = connect(settings.uri)
        self._experiment = str(experiment(self.client, settings).experiment_id)
        self.direct = direct_store(settings)
        self._is_server = sqlite_path(settings.uri) is None

    def create(self, starts: Sequence[Start]) -> list[StoredRun]:
        """Create new runs, one by one. Raises what MLflow raises."""
        return [self._complete(start, self._create(start)) for start in starts]

    def find(self, start: Start) -> StoredRun | None:
        """Return the run if the store has it, perhaps only in part."""
        run = self._search(start)
        return StoredRun(run.info.run_id, run.info.artifact_uri) if run else None

    def create_once(self, start: Start) -> StoredRun:
        """Create a run, or complete it if an earlier attempt was interrupted."""
        run = self._search(start)
        if direct := self._direct(start):
            return StoredRun(run.info.run_id, run.info.artifact_uri) if run else direct.create([start])[0]
        return self._complete(start, run or self._create(start))

    def store_id(self, local_id: str) -> str | None:
        """Return the id under which the store has the run whose own id is ``local_id``.

        None if it has none.
        """
        try:
            return str(self.client.get_run(local_id).info.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        where = f"tags.`{LOCAL_ID}` = '{local_id}'"
        experiments = [str(each.experiment_id) for each in self.client.search_experiments()]
        return next((str(run.info.run_id) for run in self.client.search_runs(experiments, where)), None)

    def _search(self, start: Start) -> Run | None:
        if self._direct(start):
            return run_or_none(lambda: self.client.get_run(start.run_id))
        return self._only(start)

    def _only(self, start: Start) -> Run | None:
        """Return the run that was made for ``start``, perhaps by a call whose answer was lost.

        Where such calls, or several processes, made more than one, one stays: of those with rows,
        if there are any, that with the first id. So all processes keep the same one. The others
        are ended and deleted.
        """
        where = f"tags.`{LOCAL_ID}` = '{start.run_id}'"
        runs: list[Run] = list(self.client.search_runs([self._experiment], where, ViewType.ALL, max_results=100))
        active = [run for run in runs if run.info.lifecycle_stage == LifecycleStage.ACTIVE]
        active.sort(key=lambda run: (not run.data.metrics, run.info.run_id))
        kept = next(iter([*active, *runs]), None)
        for run in active:
            if kept and run.info.run_id != kept.info.run_id:
                self.client.set_terminated(run.info.run_id, "KILLED")
                self.client.delete_run(run.info.run_id)
        return kept

    def _direct(self, start: Start) -> DirectStore | None:
        return None if needs_mlflow(start) else self.direct

    def _create(self, start: Start) -> Run:
        tags = {**tags_of(start), LOCAL_ID: start.run_id}
        try:
            made = self.client.create_run(self._experiment, start.time, tags, run_name=start.name)
        except UNREACHABLE:
            # The server may have made it, and the answer was lost.
            if self._is_server and (found := self._only(start)):
                return found
            raise
        if self._is_server:  # MLflow's client repeats a call without an answer
            with suppress(*UNREACHABLE):
                return self._only(start) or made
        return made

    def _complete(self, start: Start, run: Run) -> StoredRun:
        for chunk in chunks(start.params.items(), _PARAMS_A_CALL):
            self.client.log_batch(run.info.run_id, params=[Param(key, value) for key, value in chunk])
        if inputs := inputs_of(start):
            _log_inputs(self.client, run.info.run_id, [_entity(each) for each in inputs])
        return StoredRun(run.info.run_id, run.info.artifact_uri)


def _entity(given: Input) -> DatasetInput:
    data = Dataset(given.name, given.digest, SOURCE, given.source, profile=given.profile)
    return DatasetInput(data, [InputTag(CONTEXT, given.context)])


def run_or_none(query: Callable[[], Run]) -> Run | None:
    """Return the run that ``query`` returns, None where the store does not have it."""
    try:
        return query()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _log_inputs(client: MlflowClient, run_id: str, inputs: list[DatasetInput]) -> None:
    """Record the data set; retry where another process recorded the same one at once."""
    for _ in range(_TRIES - 1):
        try:
            return client.log_inputs(run_id, inputs)
        except MlflowException as error:
            # SQLite and PostgreSQL write it differently.
            if "unique constraint" not in str(error).lower():
                raise
    return client.log_inputs(run_id, inputs)
