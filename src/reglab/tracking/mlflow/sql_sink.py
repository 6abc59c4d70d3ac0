"""Sending journals to a SQLite store by plain SQL, in one transaction and without MLflow."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reglab.tracking.artifacts import place, storable
from reglab.tracking.journal_lines import Series
from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.sql_insert import RUN_NAME
from reglab.tracking.payload import Batch, Refused, Sink, Unsent
from reglab.tracking.settings import local_path, redacted
from reglab.tracking.store_keys import store_key

_LONGEST_TAG = 8_000


class DirectSink:
    """Takes batches of runs in the SQLite file ``path`` of the known version. Sending again changes nothing.

    by_calls: returns a sink that uses MLflow, for artifacts that are kept elsewhere and tags that mean more to it.
    """

    def __init__(self, path: Path, uri: str, by_calls: Callable[[], Sink]) -> None:
        self._path, self._uri, self._by_calls = path, uri, by_calls
        self._homes: dict[str, Path | None] = {}

    def send(self, batches: Sequence[Batch]) -> None:
        """Store artifacts, and all the rest in one transaction.

        Raises Refused where the store does not take one of the runs, Unsent where it takes nothing.
        """
        asked = batches[0].identity.run_id
        try:
            self._learn_homes(batches)
            for batch in batches:
                asked = batch.identity.run_id
                self._send_artifacts(batch)
                if _are_odd(batch.tags):
                    self._by_calls().send([replace(batch, series={}, artifacts={}, status=None)])
            sql.write(self._path, [_part(batch) for batch in batches])
        except sql.DeletedRunError as error:
            raise Refused(f"{redacted(self._uri)} did not take the run {error.run_id} ({error})") from error
        except (sqlite3.Error, OSError) as error:
            raise Unsent(f"{redacted(self._uri)} did not take the run {asked} ({error})") from error

    def _send_artifacts(self, batch: Batch) -> None:
        run_id = batch.identity.run_id
        home = self._homes.get(run_id)
        if batch.artifacts and not home:
            self._by_calls().send([replace(batch, series={}, tags={}, status=None)])
            return
        for name, folder in batch.artifacts:
            path = storable(batch.folder, name, folder, run_id)
            if path and home:
                _place(path, home / folder, run_id)

    def _learn_homes(self, batches: Sequence[Batch]) -> None:
        """Ask the store, in one go, where it keeps the artifacts of runs: ``run.json`` may be a stranger's."""
        new = [batch.identity.run_id for batch in batches if batch.artifacts]
        new = [run_id for run_id in new if run_id not in self._homes]
        if not new:
            return
        with sql.connection(self._path) as store:
            for run_id in new:
                found = store.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
                if found is None:
                    raise sql.DeletedRunError(run_id)
                self._homes[run_id] = local_path(str(found[0]))


def _place(path: Path, folder: Path, run_id: str) -> None:
    try:
        place(path, folder)
    except OSError as error:  # perhaps this file alone cannot be read
        raise Refused(f"{folder} did not take an artifact of the run {run_id} ({error})") from error


def _part(batch: Batch) -> sql.Part:
    series: dict[str, Series] = {}
    for key, columns in batch.series.items():
        stored = store_key(key)
        if stored in series:  # two keys of the run's that MLflow cannot tell apart
            columns = series[stored].joined(columns)
        series[stored] = columns
    tags = {} if _are_odd(batch.tags) else {store_key(key): value for key, value in batch.tags.items()}
    return sql.Part(batch.identity.run_id, series, tags, batch.status)


def _are_odd(tags: Mapping[str, str]) -> bool:
    """Return whether MLflow does more with ``tags`` than to store them: a name is also the run's, a long one is cut."""
    return RUN_NAME in tags or any(len(value) > _LONGEST_TAG for value in tags.values())
