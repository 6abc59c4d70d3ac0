"""Runs without MLflow (``tracking=none``): the same tracker, and everything stays in the run's folder."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reglab.tracking.folder import Identity, set_aside, write_identity
from reglab.tracking.params import flatten, write_config
from reglab.tracking.tracker import RunTracker


def open_run(
    *,
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    parent: str | None,
) -> RunTracker:
    """Return the tracker of a new run: ``params.json`` and ``config.yaml`` beside its journal, no store behind it."""
    set_aside(folder)
    run_id = uuid.uuid4().hex
    write_identity(folder, Identity(run_id, name, uri=None, artifacts=None))
    (folder / "params.json").write_text(json.dumps(flatten(params), indent=2) + "\n", encoding="utf-8")
    if config:
        write_config(folder / "config.yaml", config)
    tracker = RunTracker(run_id, folder, sink=None)
    tracker.tag(**tags, **({"mlflow.parentRunId": parent} if parent else {}))
    return tracker
