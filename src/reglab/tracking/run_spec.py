"""Specification of a run to open."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reglab.tracking.dataset import DataSetLike


@dataclass(frozen=True)
class RunSpec:
    """One run, before it is opened.

    Args:
        parent: The run id of the sweep that it belongs to.
        folder: Where its journal and files go, one for each run.
        config: Stored as ``config.yaml``; give it *unresolved*, so that no interpolated secret is
            written.
        params: Nested or flat; stored with dotted keys, in full length.
        steps: The last step that the run is going to log, for the budget of points
            (``TrackingSettings.points``); None: not known, so every row is sent.
        every: The distance between the steps that are logged.
        strengths: Main numbers of its regularizers, as metrics at step 0.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    dataset: DataSetLike | None = None
    parent: str | None = None
    steps: int | None = None
    every: int = 1
    strengths: Mapping[str, float] = field(default_factory=dict)
