"""Runs that are sent later (``tracking=offline``).

As with MLflow, but ``reglab sync`` makes and sends them.
"""

from collections.abc import Sequence

from reglab.tracking.opening import Opening, locked_folders, new_identity, track, write_records
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.run_start import environment_tags, new_start
from reglab.tracking.settings import TrackingSettings
from reglab.tracking.tracker import RunTracker


def open_runs(settings: TrackingSettings, specs: Sequence[RunSpec]) -> list[RunTracker]:
    """Return trackers of new runs that keep everything for their store.

    The store need not be there.
    """
    environment = environment_tags()
    with locked_folders(specs) as locks:
        openings = []
        for spec, lock in zip(specs, locks, strict=True):
            start, texts = new_start(spec, environment, settings)
            identity = new_identity(settings, spec, start.run_id, artifacts=None)
            openings.append(Opening(spec, lock, identity, start, texts))
        write_records(openings)
        return track(openings, None)
