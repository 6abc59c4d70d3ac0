"""Opening runs in a SQLite store by plain SQL, in one transaction and without MLflow."""

import sqlite3
from collections.abc import Sequence

from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.late_sink import LateSink
from reglab.tracking.mlflow.sql_create import DirectStore, direct_store, is_odd
from reglab.tracking.opening import Opening, at_once, claimed, forget, new_identity, record, refusal, settled, track
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.run_start import new_start, own_tags
from reglab.tracking.sender import Drainer
from reglab.tracking.settings import TrackingSettings
from reglab.tracking.tracker import RunTracker


def store_for(settings: TrackingSettings, specs: Sequence[RunSpec]) -> DirectStore | None:
    """Return the store that takes ``specs`` without MLflow's being asked, or None where it has to be."""
    store = direct_store(settings)
    try:
        return store if store and sql.is_current(store.path) and not any(map(is_odd, specs)) else None
    except sqlite3.Error:
        return None


def open_runs(store: DirectStore, settings: TrackingSettings, specs: Sequence[RunSpec]) -> list[RunTracker]:
    """Make runs as ``mlflow.runs.open_runs`` does. Raises UserError, with nothing made, where the store fails."""
    own = own_tags()
    with claimed(specs) as locks:
        openings = []
        for spec, lock in zip(specs, locks, strict=True):
            start, texts = new_start(spec, own, settings)
            identity = new_identity(settings, spec, start.run_id, store.place(start).artifacts)
            openings.append(Opening(spec, lock, identity, start, texts))
        record(openings)
        try:
            made = store.make([opening.start for opening in openings if opening.start])
        except (sqlite3.Error, OSError) as error:
            forget(openings)
            raise refusal(settings, specs, str(error)) from error
        return track(at_once(settled, openings, made), Drainer(LateSink(settings.uri)))
