"""Sending a journal to MLflow."""

import logging
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from reglab.tracking import mlflow_sql
from reglab.tracking.artifacts import place
from reglab.tracking.batch import Batch, Unsent, chunks
from reglab.tracking.keys import store_key
from reglab.tracking.lines import Row
from reglab.tracking.mlflow_store import UNREACHABLE, reason
from reglab.tracking.settings import local_path, redacted, sqlite_path

_log = logging.getLogger(__name__)
_METRICS_A_CALL = 1_000  # MLflow's limits
_TAGS_A_CALL = 100


class MlflowSink:
    """Takes batches of the run ``run_id``. Every part of a batch may be sent again and changes nothing.

    folder: where relative artifact paths start. artifacts: the run's artifact URI.
    """

    def __init__(self, client: MlflowClient, uri: str, run_id: str, folder: Path, artifacts: str | None) -> None:
        self._client, self._uri, self._run_id, self._folder = client, uri, run_id, folder
        self._artifacts = local_path(artifacts) if sqlite_path(uri) else None

    def send(self, batch: Batch) -> None:
        """Store a batch, its status last. Raises Unsent where the store does not take it."""
        try:
            self._send_rows([row._replace(key=store_key(row.key)) for row in batch.rows])
            for tags in chunks(batch.tags.items(), _TAGS_A_CALL):
                self._client.log_batch(self._run_id, tags=[RunTag(store_key(key), value) for key, value in tags])
            for path, folder in batch.artifacts:
                self._send_artifact(self._folder / path, folder)
            if batch.status:
                status, time = batch.status
                if status == "RUNNING":
                    self._client.update_run(self._run_id, status)
                else:
                    self._client.set_terminated(self._run_id, status, time)
        except (*UNREACHABLE, LookupError) as error:
            raise Unsent(f"{redacted(self._uri)} did not take the run {self._run_id} ({reason(error)})") from error

    def _send_rows(self, rows: list[Row]) -> None:
        path = sqlite_path(self._uri)
        if path and rows and mlflow_sql.is_known(path):
            mlflow_sql.write_rows(path, self._run_id, rows)
            return
        for some in chunks(rows, _METRICS_A_CALL):
            metrics = [Metric(row.key, row.value, row.timestamp, row.step) for row in some]
            self._client.log_batch(self._run_id, metrics=metrics)

    def _send_artifact(self, path: Path, folder: str) -> None:
        if not path.exists():  # it will not come back: sending again cannot help
            _log.warning("the artifact %s of run %s is gone: it was removed before it was stored", path, self._run_id)
        elif self._artifacts:
            place(path, self._artifacts / folder)
        elif path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), folder or None)
        else:
            self._client.log_artifact(self._run_id, str(path), folder or None)
