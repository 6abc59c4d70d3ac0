"""Tracking of runs and sweeps: a local journal, sent to MLflow in the background.

Importing this package imports no MLflow. Opening a run does where the store is a server or has yet
to be made.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from reglab.core import descriptors
from reglab.core.account import ensure_account
from reglab.core.describe_error import storable
from reglab.core.errors import UserError
from reglab.core.secrets import hide
from reglab.tracking.admin.find import find_folder
from reglab.tracking.copies import check_original, claimed
from reglab.tracking.dataset import DataSetLike
from reglab.tracking.folder import FOLDER, Identity, has_records, is_pending, read_identity, shell_path, write_identity
from reglab.tracking.lock import RunLock, is_running
from reglab.tracking.mlflow.late_sink import LateSink
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.run_state import last_status
from reglab.tracking.sender import JournalCursor, Sender
from reglab.tracking.settings import TrackingSettings
from reglab.tracking.store_gate import check_store
from reglab.tracking.thinning import Thinning
from reglab.tracking.tracker import RunTracker, finish_runs, log_pack, sync_runs

__all__ = [
    "RunSpec",
    "RunTracker",
    "TrackingSettings",
    "find_folder",
    "finish_runs",
    "is_running",
    "last_status",
    "log_pack",
    "open_run",
    "open_runs",
    "open_sweep",
    "reopen_run",
    "send",
    "sync_runs",
]

# MLflow reads these when it is imported or called, so they are set here, before reglab can
# import it. What the user has set already stays.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # MLflow's default lets an artifact run code when it is loaded.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # would break the live table
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # a bar for each small file
    # By default one call to a dead server blocks for four minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # the journal sends again anyway
    # A server that is restarted may ask for an hour.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
ensure_account()  # MLflow asks for the home folder when it is imported


def open_runs(settings: TrackingSettings, runs: Sequence[RunSpec]) -> list[RunTracker]:
    """Start many runs at once and return their trackers, in the order given.

    Each is the same run as ``open_run`` makes. In a SQLite store of the known version all of them
    are made in one transaction, all or none; elsewhere they are made one by one. One thread sends
    the journals of all.

    Args:
        settings: Backend, store, experiment and budget of points.
        runs: The runs, each in a folder of its own.

    Raises:
        UserError: Where the store cannot be opened, where two runs have the same folder, and where
            another process is running a run in one of the folders.
        OSError: Where the process may not have so many files open, before any run is made.
    """
    # Training may change the working folder.
    specs = [replace(spec, folder=spec.folder.resolve(), name=storable(hide(spec.name))) for spec in runs]
    for folder, count in Counter(spec.folder for spec in specs).items():
        if count > 1:
            raise UserError(f"{count} runs have the same folder {folder}: give each its own folder")
    descriptors.check_room(len(specs))
    if settings.backend == "none":
        from reglab.tracking import local

        return local.open_runs(specs, settings.also)
    if settings.backend == "offline":
        from reglab.tracking import offline

        return offline.open_runs(settings, specs)
    from reglab.tracking.mlflow import sql_runs

    if store := sql_runs.store_for(settings, specs):
        return sql_runs.open_runs(store, settings, specs)
    from reglab.tracking.mlflow import runs as mlflow_run

    return mlflow_run.open_runs(settings, specs)


def open_run(
    settings: TrackingSettings,
    *,
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    dataset: DataSetLike | None = None,
    parent: str | None = None,
    steps: int | None = None,
    every: int = 1,
    strengths: Mapping[str, float] = MappingProxyType({}),
) -> RunTracker:
    """Start a run and return its tracker; the arguments are those of ``RunSpec``.

    Args:
        settings: Backend, store, experiment and budget of points.

    Raises:
        UserError: Where the store cannot be opened.
    """
    spec = RunSpec(name, folder, config, params, tags, dataset, parent, steps, every, strengths)
    (tracker,) = open_runs(settings, [spec])
    return tracker


def open_sweep(
    settings: TrackingSettings,
    *,
    name: str,
    folder: Path,
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    config: Mapping[str, Any] = MappingProxyType({}),
) -> RunTracker:
    """Start the parent run of a sweep: its ``run_id`` is the ``parent`` of the sweep's runs."""
    return open_run(
        settings, name=name, folder=folder, config=config, params=params, tags={"reglab.kind": "sweep", **tags}
    )


def reopen_run(folder: Path, rule: Thinning | None = None) -> RunTracker:
    """Return the tracker of the run in ``folder``, set RUNNING again, to resume, extend or end it.

    Its journal is continued, from where it was sent. The store is not contacted: the journal waits
    for it. A run that is offline, or was never created in its store, stays so until
    ``reglab sync``.

    Args:
        folder: The run's folder.
        rule: The budget of points from now on, for a run that is extended; None: unchanged.

    Raises:
        UserError: Where no run was recorded in ``folder``, where a living process is running it,
            where the folder is a copy of one that is still in its place, and where its store is not
            one that the user named.
    """
    folder = folder.resolve()
    read_identity(folder)  # no lock is left where there is no run
    lock = RunLock(folder)
    try:
        # Another process may have given it its id in the store until now.
        identity = read_identity(folder)
        check_original(folder, identity)
        moved = identity.place not in (None, str(folder))
        identity = claimed(folder, identity if rule is None else identity.with_thinning(rule))
        write_identity(folder, identity)
        tracker = RunTracker(identity, folder, _sender(identity, folder), lock)
        tracker.journal.record(status="RUNNING", **({"tags": {FOLDER: str(folder)}} if moved else {}))
    except BaseException:
        lock.release()
        raise
    return tracker


def send(folder: Path) -> bool:
    """Send the rest of the journal of the run in ``folder`` to its store.

    Args:
        folder: The run's folder.

    Returns:
        Whether the store has all of it; False where it cannot be reached.

    Raises:
        UserError: Where ``folder`` holds no run, one that its store does not have, or one of a
            store that the user did not name.
    """
    folder = folder.resolve()
    identity = read_identity(folder)
    if identity.uri is None:
        raise UserError(f"the run in {folder} was recorded with tracking=none: there is no store to send it to")
    if is_pending(folder):
        raise UserError(f"the run in {folder} is not in its store yet: reglab sync {shell_path(folder)}")
    if not has_records(folder):
        return True  # the process died between the two
    return Sender(LateSink(check_store(identity.uri, folder))).flush([JournalCursor(identity, folder)])


def _sender(identity: Identity, folder: Path) -> Sender | None:
    if identity.uri is None or identity.offline or is_pending(folder):
        return None
    return Sender(LateSink(check_store(identity.uri, folder)))
