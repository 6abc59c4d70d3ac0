"""Runs without MLflow (``tracking=none``).

The same tracker, and everything stays in the run's folder.
"""

import json
import uuid
from collections.abc import Sequence

from reglab.tracking.curve_files import CurveFile
from reglab.tracking.folder import Identity
from reglab.tracking.opening import Opening, locked_folders, track, write_records
from reglab.tracking.params import flatten
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.run_start import all_tags
from reglab.tracking.tracker import RunTracker


def open_runs(specs: Sequence[RunSpec], also: Sequence[CurveFile] = ()) -> list[RunTracker]:
    """Return trackers of new runs.

    ``params.json`` and ``config.yaml`` beside their journals, no store behind them.

    Args:
        specs: The runs.
        also: Their curve files.
    """
    with locked_folders(specs) as locks:
        openings = [
            Opening(spec, lock, Identity(uuid.uuid4().hex, spec.name, uri=None, artifacts=None, also=also))
            for spec, lock in zip(specs, locks, strict=True)
        ]
        write_records(openings)
        trackers = track(openings, None)
        for spec, tracker in zip(specs, trackers, strict=True):
            params = json.dumps(flatten(spec.params), indent=2) + "\n"
            (spec.folder / "params.json").write_text(params, encoding="utf-8")
            tracker.tag(**all_tags(spec), **({"mlflow.parentRunId": spec.parent} if spec.parent else {}))
        return trackers
