"""Runs that are sent later (``tracking=offline``): as with MLflow, but ``reglab sync`` makes and sends them."""

from collections.abc import Sequence

from reglab.tracking.opening import Opening, claimed, new_identity, record, track
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.run_start import new_start, own_tags
from reglab.tracking.settings import TrackingSettings
from reglab.tracking.tracker import RunTracker


def open_runs(settings: TrackingSettings, specs: Sequence[RunSpec]) -> list[RunTracker]:
    """Return trackers of new runs that keep all that their store is to be told; the store need not be there."""
    own = own_tags()
    with claimed(specs) as locks:
        openings = []
        for spec, lock in zip(specs, locks, strict=True):
            start, texts = new_start(spec, own, settings)
            identity = new_identity(settings, spec, start.run_id, artifacts=None)
            openings.append(Opening(spec, lock, identity, start, texts))
        record(openings)
        return track(openings, None)
