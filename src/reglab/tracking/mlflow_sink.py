"""Sending journals to MLflow."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from reglab.tracking import mlflow_sql
from reglab.tracking.artifacts import escapes, leads_out, place
from reglab.tracking.batch import Batch, Refused, Unsent, chunks
from reglab.tracking.keys import store_key
from reglab.tracking.lines import Series
from reglab.tracking.mlflow_store import UNREACHABLE, reason
from reglab.tracking.settings import local_path, redacted, sqlite_path

_log = logging.getLogger(__name__)
_METRICS_A_CALL = 1_000  # MLflow's limits
_TAGS_A_CALL = 100
_LONGEST_TAG = 8_000
OF_THE_RUN = (
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST",
)  # the store itself is well


class MlflowSink:
    """Takes batches of runs in the store at ``uri``. Every part of a batch may be sent again and changes nothing."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client, self._uri = client, uri
        self._homes: dict[str, Path | None] = {}

    def send(self, batches: Sequence[Batch]) -> None:
        """Store batches, the status of a run last: in one transaction where the store is a known SQLite file.

        Raises Refused where it does not take one of the runs, Unsent where it takes nothing.
        """
        path = sqlite_path(self._uri)
        asked = batches[0].identity.run_id
        try:
            fast = path is not None and mlflow_sql.is_known(path)
            if path:
                self._learn_homes(path, batches)
            for batch in batches:
                asked = batch.identity.run_id
                self._send_artifacts(batch)
                if not fast:
                    self._send_by_calls(batch)
                elif _are_odd(batch.tags):
                    self._send_tags(batch)
            if path and fast:
                mlflow_sql.write(path, [_part(batch) for batch in batches])
        except mlflow_sql.DeletedRunError as error:
            raise Refused(f"{redacted(self._uri)} did not take the run {error.run_id} ({error})") from error
        except UNREACHABLE as error:
            refused = isinstance(error, MlflowException) and error.error_code in OF_THE_RUN
            said = f"{redacted(self._uri)} did not take the run {asked} ({reason(error)})"
            raise (Refused if refused else Unsent)(said) from error

    def _send_by_calls(self, batch: Batch) -> None:
        run_id = batch.identity.run_id
        for rows in chunks(batch.rows(), _METRICS_A_CALL):
            metrics = [Metric(store_key(row.key), row.value, row.timestamp, row.step) for row in rows]
            self._client.log_batch(run_id, metrics=metrics)
        self._send_tags(batch)
        if batch.status:
            status, time = batch.status
            if status == "RUNNING":
                self._client.update_run(run_id, status)
            else:
                self._client.set_terminated(run_id, status, time)

    def _send_tags(self, batch: Batch) -> None:
        for tags in chunks(batch.tags.items(), _TAGS_A_CALL):
            self._client.log_batch(batch.identity.run_id, tags=[RunTag(store_key(key), value) for key, value in tags])

    def _send_artifacts(self, batch: Batch) -> None:
        run_id = batch.identity.run_id
        for name, folder in batch.artifacts:
            path = batch.folder / name
            if not path.exists():  # it will not come back: sending again cannot help
                _log.warning("the artifact %s of run %s is gone: it was removed before it was stored", path, run_id)
            elif leads_out(folder) or escapes(path, batch.folder):  # the folder may come from somebody else
                _log.warning(
                    "the artifact %s of run %s is not stored: it, or its place %r, leads out of the run's folder. Copy "
                    "it there in place of the link", path, run_id, folder,
                )  # fmt: skip
            elif home := self._homes.get(run_id):
                self._place(path, home / folder, run_id)
            elif path.is_dir():
                self._client.log_artifacts(run_id, str(path), folder or None)
            else:
                self._client.log_artifact(run_id, str(path), folder or None)

    def _learn_homes(self, path: Path, batches: Sequence[Batch]) -> None:
        """Ask the store, in one go, where it keeps the artifacts of runs: ``run.json`` may be a stranger's."""
        new = [batch.identity.run_id for batch in batches if batch.artifacts]
        new = [run_id for run_id in new if run_id not in self._homes]
        if not new:
            return
        with mlflow_sql.connection(path) as store:
            for run_id in new:
                found = store.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
                if found is None:
                    raise mlflow_sql.DeletedRunError(run_id)
                self._homes[run_id] = local_path(str(found[0]))

    def _place(self, path: Path, folder: Path, run_id: str) -> None:
        try:
            place(path, folder)
        except OSError as error:  # perhaps this file alone cannot be read
            raise Refused(f"{folder} did not take an artifact of the run {run_id} ({reason(error)})") from error


def _part(batch: Batch) -> mlflow_sql.Part:
    series: dict[str, Series] = {}
    for key, columns in batch.series.items():
        stored = store_key(key)
        if stored in series:  # two keys of the run's that MLflow cannot tell apart
            columns = series[stored].joined(columns)
        series[stored] = columns
    tags = {} if _are_odd(batch.tags) else {store_key(key): value for key, value in batch.tags.items()}
    return mlflow_sql.Part(batch.identity.run_id, series, tags, batch.status)


def _are_odd(tags: Mapping[str, str]) -> bool:
    """Return whether MLflow does more with ``tags`` than to store them: a name is also the run's, a long one is cut."""
    return MLFLOW_RUN_NAME in tags or any(len(value) > _LONGEST_TAG for value in tags.values())
