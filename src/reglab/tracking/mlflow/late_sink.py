"""Sink that connects to its store on the first send, so that training never waits for it."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reglab.core.errors import UserError
from reglab.tracking.artifacts_left import Artifact, ArtifactLeft
from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.sql_sink import DirectSink
from reglab.tracking.payload import Payload, Sink, Unsent
from reglab.tracking.settings import sqlite_path


class LateSink:
    """Sends payloads to the store at ``uri``; while it cannot be opened, they are unsent.

    MLflow is imported where the store is not a SQLite file that plain SQL can be used for.

    Args:
        client: MLflow's, where it is connected already.
    """

    def __init__(self, uri: str, client: Any = None) -> None:
        self._uri, self._client = uri, client
        self._sink: Sink | None = None
        self._mlflow_sink: Sink | None = None

    def send(self, payloads: Sequence[Payload]) -> None:
        """Store ``payloads``.

        Raises:
            Refused: Where one of the runs is not taken.
            Unsent: Where nothing is.
        """
        if self._sink is None:
            self._sink = self._connect()
        self._sink.send(payloads)

    def send_artifact(self, run_id: str, home: Path, artifact: Artifact) -> None:
        """Store one artifact of the run in ``home``.

        Raises:
            ArtifactLeft: Where it is not stored.
        """
        try:
            if self._sink is None:
                self._sink = self._connect()
            self._sink.send_artifact(run_id, home, artifact)
        except Unsent as error:
            raise ArtifactLeft(str(error), others=False) from error

    def _connect(self) -> Sink:
        path = sqlite_path(self._uri)
        path = path and path.absolute()
        try:
            known = path is not None and sql.is_known(path)
            current = path is not None and known and sql.is_current(path)
        except sqlite3.Error:  # MLflow reports the error
            known = current = False
        if not current:
            self._through_mlflow()  # which looks whether this MLflow can open it
        return DirectSink(path, self._uri, self._through_mlflow) if path and known else self._through_mlflow()

    def _through_mlflow(self) -> Sink:
        if self._mlflow_sink is None:
            from reglab.tracking.mlflow.sink import MlflowSink
            from reglab.tracking.mlflow.store import connect

            try:
                self._mlflow_sink = MlflowSink(self._client or connect(self._uri, create=False), self._uri)
            except UserError as error:
                raise Unsent(str(error)) from error
        return self._mlflow_sink
