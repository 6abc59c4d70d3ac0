"""Open runs in MLflow, in one transaction or few large calls."""

import logging
from collections.abc import Sequence

from reglab.core.errors import UserError
from reglab.tracking import offline
from reglab.tracking.mlflow import sql_runs
from reglab.tracking.mlflow.create import RunCreator
from reglab.tracking.mlflow.denied import denied
from reglab.tracking.mlflow.late_sink import LateSink
from reglab.tracking.mlflow.sink import OF_THE_RUN
from reglab.tracking.mlflow.sql_create import needs_mlflow
from reglab.tracking.mlflow.store import UNREACHABLE, reason
from reglab.tracking.opening import (
    Opening,
    locked_folders,
    map_threads,
    mark_created,
    new_identity,
    store_refused,
    track,
    write_records,
)
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.run_start import environment_tags, new_start
from reglab.tracking.sender import Sender
from reglab.tracking.settings import TrackingSettings, redacted, sqlite_path
from reglab.tracking.tracker import RunTracker

_log = logging.getLogger(__name__)


def open_runs(settings: TrackingSettings, specs: Sequence[RunSpec]) -> list[RunTracker]:
    """Create MLflow runs with tags, params, data set and config; their trackers share a sender.

    In a known SQLite store they are made in one transaction. Each run's folder says what is to be
    made before it is made, so that a crash in between leaves nothing that ``reglab sync`` cannot
    finish. A param above 6,000 characters is kept whole in the artifact ``params_long.json``, a tag
    above 8,000 in ``tags_long.json``.

    The jobs of a sweep that is in the store do not need it to begin: where its server is away they
    are recorded only in their folders, until ``reglab sync``, which a sweep does at its end.

    Raises:
        UserError: Where the store cannot be reached otherwise: the address may be wrong.
    """
    try:
        creator = RunCreator(settings)
    except UserError as error:
        if not _may_wait(settings, specs, error.__cause__):
            raise
        return offline.open_runs(settings, specs)
    if creator.direct and not any(map(needs_mlflow, specs)):
        return sql_runs.open_runs(creator.direct, settings, specs)
    environment = environment_tags()
    with locked_folders(specs) as locks:
        openings = []
        for spec, lock in zip(specs, locks, strict=True):
            start, texts = new_start(spec, environment, settings)
            identity = new_identity(settings, spec, start.run_id, None)
            openings.append(Opening(spec, lock, identity, start, texts))
        write_records(openings)
        try:
            stored = creator.create([opening.start for opening in openings if opening.start])
        except UNREACHABLE as error:  # a server may have made some, which `reglab sync` finds
            if _may_wait(settings, specs, error):
                return track(openings, None)
            raise store_refused(settings, specs, reason(error)) from error
        sender = Sender(LateSink(settings.uri, creator.client))
        return track(map_threads(mark_created, openings, stored), sender)


def _may_wait(settings: TrackingSettings, specs: Sequence[RunSpec], error: BaseException | None) -> bool:
    """Return whether jobs of a sweep start without their unreachable server, after a warning."""
    if not isinstance(error, UNREACHABLE) or denied(error) or getattr(error, "error_code", None) in OF_THE_RUN:
        return False
    if sqlite_path(settings.uri) is not None or not all(spec.parent for spec in specs):
        return False
    _log.warning(
        "cannot reach %s (%s). Training starts anyway: the folders keep everything until the server is back",
        redacted(settings.uri), reason(error),
    )  # fmt: skip
    return True
