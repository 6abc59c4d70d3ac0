"""Runs without MLflow (``tracking=none``): the same tracker, and everything stays in the run's folder."""

import json
import uuid
from collections.abc import Sequence

from reglab.tracking.folder import Identity, set_aside, write_identity
from reglab.tracking.params import flatten, write_config
from reglab.tracking.spec import RunSpec
from reglab.tracking.tracker import RunTracker


def open_runs(specs: Sequence[RunSpec]) -> list[RunTracker]:
    """Return trackers of new runs: ``params.json`` and ``config.yaml`` beside their journals, no store behind them."""
    written: dict[str, str] = {}
    return [_open(spec, written) for spec in specs]


def _open(spec: RunSpec, written: dict[str, str]) -> RunTracker:
    set_aside(spec.folder)
    identity = Identity(uuid.uuid4().hex, spec.name, uri=None, artifacts=None)
    write_identity(spec.folder, identity)
    params = json.dumps(flatten(spec.params), indent=2) + "\n"
    (spec.folder / "params.json").write_text(params, encoding="utf-8")
    if spec.config:
        write_config(spec.folder / "config.yaml", spec.config, written)
    tracker = RunTracker(identity, spec.folder, drainer=None)
    tracker.tag(**spec.tags, **({"mlflow.parentRunId": spec.parent} if spec.parent else {}))
    return tracker
