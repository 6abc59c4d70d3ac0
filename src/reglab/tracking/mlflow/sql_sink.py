"""Sink that sends journals to a SQLite store by plain SQL, without MLflow."""

import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reglab.core.errors import UserError
from reglab.tracking.artifacts import link_or_copy, local_home, storable
from reglab.tracking.artifacts_left import Artifact, ArtifactLeft
from reglab.tracking.journal_lines import Series
from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.sql_insert import RUN_NAME
from reglab.tracking.payload import Payload, Refused, Sink, Unsent
from reglab.tracking.settings import redacted
from reglab.tracking.store_gate import check_artifact_store
from reglab.tracking.store_keys import store_key

_LONGEST_TAG = 8_000


class DirectSink:
    """Sends payloads of runs to the SQLite file ``path`` of the known version.

    Sending again changes nothing.

    Args:
        through_mlflow: Returns a sink that uses MLflow, for artifacts that are kept elsewhere and
            tags that mean more to it.
    """

    def __init__(self, path: Path, uri: str, through_mlflow: Callable[[], Sink]) -> None:
        self._path, self._uri, self._through_mlflow = path, uri, through_mlflow
        self._targets: dict[str, Path | None] = {}

    def send(self, payloads: Sequence[Payload]) -> None:
        """Store rows, tags and statuses in one transaction.

        Raises:
            Refused: Where the store does not accept one of the runs.
            Unsent: Where it takes nothing.
        """
        run_id_sent = payloads[0].identity.run_id
        try:
            for payload in payloads:
                run_id_sent = payload.identity.run_id
                if _need_mlflow(payload.tags):
                    self._through_mlflow().send([replace(payload, series={}, status=None)])
            sql.write(self._path, [_run_write(payload) for payload in payloads])
        except (sql.DeletedRunError, sql.ClaimedRunError) as error:
            raise Refused(f"{redacted(self._uri)} could not store the run {error.run_id} ({error})") from error
        except (sqlite3.IntegrityError, sqlite3.DataError, ValueError, OverflowError) as error:
            raise Refused(f"{redacted(self._uri)} does not take the run {run_id_sent} ({error})") from error
        except (sqlite3.Error, OSError) as error:
            raise Unsent(f"{redacted(self._uri)} could not store the run {run_id_sent} ({error})") from error

    def send_artifact(self, run_id: str, home: Path, artifact: Artifact) -> None:
        """Put one artifact of the run in ``home`` into its artifact folder.

        Raises:
            ArtifactLeft: Where it cannot be read, or the folder cannot be written.
        """
        try:
            target = self._target(run_id)
        except (sqlite3.Error, OSError) as error:
            raise ArtifactLeft(f"{redacted(self._uri)} cannot be read ({error})", others=False) from error
        if target is None:
            self._through_mlflow().send_artifact(run_id, home, artifact)
            return
        path = storable(home, *artifact, run_id)
        try:
            if path:
                link_or_copy(path, target / artifact[1])
        except (OSError, shutil.Error) as error:  # perhaps only this file cannot be read
            raise ArtifactLeft(f"{target / artifact[1]} cannot take it ({error})") from error

    def _target(self, run_id: str) -> Path | None:
        """Return the artifact folder of a run, None where it is not on this machine.

        The store says so, not ``run.json``: that may be from another user.
        """
        if run_id not in self._targets:
            with sql.connection(self._path) as store:
                row = store.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
            if row is None:
                raise ArtifactLeft(str(sql.DeletedRunError(run_id)))
            self._targets[run_id] = self._home(str(row[0]), run_id)
        return self._targets[run_id]

    def _home(self, uri: str, run_id: str) -> Path | None:
        try:
            check_artifact_store(uri, self._uri)
            return local_home(uri, run_id)
        except UserError as error:
            raise ArtifactLeft(str(error)) from error


def _run_write(payload: Payload) -> sql.RunWrite:
    series: dict[str, Series] = {}
    for key, columns in payload.series.items():
        stored = store_key(key)
        if stored in series:  # two keys of the run's that MLflow cannot tell apart
            columns = series[stored].joined(columns)
        series[stored] = columns
    tags = {} if _need_mlflow(payload.tags) else {store_key(key): value for key, value in payload.tags.items()}
    return sql.RunWrite(payload.identity.run_id, series, tags, payload.status, payload.identity.claims)


def _need_mlflow(tags: Mapping[str, str]) -> bool:
    """Return whether MLflow does more with ``tags`` than to store them.

    A name is also the run's, a long one is cut.
    """
    return RUN_NAME in tags or any(len(value) > _LONGEST_TAG for value in tags.values())
