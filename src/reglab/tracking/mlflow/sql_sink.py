"""Sink that sends journals to a SQLite store by plain SQL, without MLflow."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reglab.tracking.artifacts import link_or_copy, storable
from reglab.tracking.journal_lines import Series
from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.sql_insert import RUN_NAME
from reglab.tracking.payload import Payload, Refused, Sink, Unsent
from reglab.tracking.settings import local_path, redacted
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
        self._homes: dict[str, Path | None] = {}

    def send(self, payloads: Sequence[Payload]) -> None:
        """Store artifacts, and all the rest in one transaction.

        Raises:
            Refused: Where the store does not accept one of the runs.
            Unsent: Where it takes nothing.
        """
        run_id_sent = payloads[0].identity.run_id
        try:
            self._look_up_homes(payloads)
            for payload in payloads:
                run_id_sent = payload.identity.run_id
                self._send_artifacts(payload)
                if _need_mlflow(payload.tags):
                    self._through_mlflow().send([replace(payload, series={}, artifacts={}, status=None)])
            sql.write(self._path, [_run_write(payload) for payload in payloads])
        except sql.DeletedRunError as error:
            raise Refused(f"{redacted(self._uri)} could not store the run {error.run_id} ({error})") from error
        except (sqlite3.IntegrityError, sqlite3.DataError, ValueError, OverflowError) as error:
            raise Refused(f"{redacted(self._uri)} does not take the run {run_id_sent} ({error})") from error
        except (sqlite3.Error, OSError) as error:
            raise Unsent(f"{redacted(self._uri)} could not store the run {run_id_sent} ({error})") from error

    def _send_artifacts(self, payload: Payload) -> None:
        run_id = payload.identity.run_id
        home = self._homes.get(run_id)
        if payload.artifacts and not home:
            self._through_mlflow().send([replace(payload, series={}, tags={}, status=None)])
            return
        for name, folder in payload.artifacts:
            path = storable(payload.folder, name, folder, run_id)
            if path and home:
                _store_file(path, home / folder, run_id)

    def _look_up_homes(self, payloads: Sequence[Payload]) -> None:
        """Read the artifact folders of runs from the store.

        ``run.json`` is not trusted: it may be from another user.
        """
        unknown = [payload.identity.run_id for payload in payloads if payload.artifacts]
        unknown = [run_id for run_id in unknown if run_id not in self._homes]
        if not unknown:
            return
        with sql.connection(self._path) as store:
            for run_id in unknown:
                row = store.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
                if row is None:
                    raise sql.DeletedRunError(run_id)
                self._homes[run_id] = local_path(str(row[0]))


def _store_file(path: Path, folder: Path, run_id: str) -> None:
    try:
        link_or_copy(path, folder)
    except OSError as error:  # perhaps only this file cannot be read
        raise Refused(f"{folder} could not store an artifact of the run {run_id} ({error})") from error


def _run_write(payload: Payload) -> sql.RunWrite:
    series: dict[str, Series] = {}
    for key, columns in payload.series.items():
        stored = store_key(key)
        if stored in series:  # two keys of the run's that MLflow cannot tell apart
            columns = series[stored].joined(columns)
        series[stored] = columns
    tags = {} if _need_mlflow(payload.tags) else {store_key(key): value for key, value in payload.tags.items()}
    return sql.RunWrite(payload.identity.run_id, series, tags, payload.status)


def _need_mlflow(tags: Mapping[str, str]) -> bool:
    """Return whether MLflow does more with ``tags`` than to store them.

    A name is also the run's, a long one is cut.
    """
    return RUN_NAME in tags or any(len(value) > _LONGEST_TAG for value in tags.values())
