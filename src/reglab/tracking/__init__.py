"""Runs and sweeps in MLflow, written behind training's back from a local journal.

Importing this package imports no MLflow; opening a run does, unless ``tracking=none``.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from reglab.tracking.dataset import DataSetLike
from reglab.tracking.drainer import Drainer
from reglab.tracking.folder import JOURNAL, SENT, read_identity
from reglab.tracking.settings import TrackingSettings
from reglab.tracking.tracker import RunTracker

__all__ = ["RunTracker", "TrackingSettings", "is_open", "open_run", "open_sweep", "reopen_run", "send"]

# MLflow reads these when it is imported or called, so they stand here, before anything of ours can import it.
# What the user has set already stays.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # MLflow's default lets an artifact run code when it is loaded
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # would break the live table
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default one call to a dead server blocks for four minutes;
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # the journal sends again anyway
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)


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
) -> RunTracker:
    """Start a run and return its tracker; ``parent`` is the run id of the sweep that it belongs to.

    config: stored as ``config.yaml``; give it *unresolved*, so that no interpolated secret is written.
    params: nested or flat; stored with dotted keys, in full length.
    Raises UserError where the store cannot be opened.
    """
    folder = folder.resolve()  # training may change the working folder
    if settings.backend == "none":
        from reglab.tracking import local

        return local.open_run(folder=folder, name=name, config=config, params=params, tags=tags, parent=parent)
    from reglab.tracking import mlflow_run

    return mlflow_run.open_run(
        settings,
        name=name,
        folder=folder,
        config=config,
        params=params,
        tags=tags,
        dataset=dataset,
        parent=parent,
    )


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


def is_open(folder: Path) -> bool:
    """Return whether the run in ``folder`` still counts as running. Raises UserError where no run was recorded."""
    from reglab.tracking.folder import JOURNAL, read_identity
    from reglab.tracking.lines import lines

    identity = read_identity(folder)
    if identity.uri is None:
        return not any(line.content.get("status", "RUNNING") != "RUNNING" for line in lines(folder / JOURNAL))
    from reglab.tracking.mlflow_read import get_run

    return get_run(identity.uri, identity.run_id).status == "RUNNING"


def reopen_run(folder: Path) -> RunTracker:
    """Return the tracker of the run in ``folder``, set RUNNING again: to resume it, or to end it for a dead process.

    Its journal, and what was sent of it, go on. Raises UserError where no run was recorded in ``folder``.
    """
    folder = folder.resolve()
    identity = read_identity(folder)
    sink = None
    if identity.uri is not None:
        from reglab.tracking.mlflow_run import sink_of

        sink = sink_of(identity, folder)
    tracker = RunTracker(identity.run_id, folder, sink)
    tracker.journal.record(status="RUNNING")
    return tracker


def send(folder: Path) -> bool:
    """Send to its store what the journal of the run in ``folder`` still holds. False: the store cannot be reached.

    Raises UserError where ``folder`` holds no run, or one without a store.
    """
    from reglab.tracking.mlflow_run import sink_of

    folder = folder.resolve()
    sink = sink_of(read_identity(folder), folder)
    return Drainer(folder / JOURNAL, sink, folder / SENT, seconds=0).drain()
