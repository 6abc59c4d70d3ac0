"""Open runs in a SQLite store by plain SQL, in one transaction, without MLflow."""

import sqlite3
from collections.abc import Sequence

from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.late_sink import LateSink
from reglab.tracking.mlflow.sql_create import DirectStore, direct_store, needs_mlflow
from reglab.tracking.opening import (
    Opening,
    locked_folders,
    map_threads,
    mark_created,
    new_identity,
    remove_records,
    store_refused,
    track,
    write_records,
)
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.run_start import environment_tags, new_start
from reglab.tracking.sender import Sender
from reglab.tracking.settings import TrackingSettings
from reglab.tracking.tracker import RunTracker


def store_for(settings: TrackingSettings, specs: Sequence[RunSpec]) -> DirectStore | None:
    """Return the store that takes ``specs`` without importing MLflow, or None."""
    store = direct_store(settings)
    try:
        return store if store and sql.is_current(store.path) and not any(map(needs_mlflow, specs)) else None
    except sqlite3.Error:
        return None


def open_runs(store: DirectStore, settings: TrackingSettings, specs: Sequence[RunSpec]) -> list[RunTracker]:
    """Make runs as ``mlflow.runs.open_runs`` does.

    Raises:
        UserError: With nothing made, where the store fails.
    """
    environment = environment_tags()
    with locked_folders(specs) as locks:
        openings = []
        for spec, lock in zip(specs, locks, strict=True):
            start, texts = new_start(spec, environment, settings)
            identity = new_identity(settings, spec, start.run_id, store.stored_run(start).artifacts)
            openings.append(Opening(spec, lock, identity, start, texts))
        write_records(openings)
        try:
            stored = store.create([opening.start for opening in openings if opening.start])
        except (sqlite3.Error, OSError) as error:
            remove_records(openings)
            raise store_refused(settings, specs, str(error)) from error
        return track(map_threads(mark_created, openings, stored), Sender(LateSink(settings.uri)))
