"""What other tools are told of a run: name, project, group, config and rows, from its folder."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglab.core.errors import UserError
from reglab.tracking import environment
from reglab.tracking.folder import CREATED, START, read_identity
from reglab.tracking.params import shown
from reglab.tracking.run_start import read_start
from reglab.tracking.run_state import read_state

if TYPE_CHECKING:
    from reglab.tracking.full_series import Curve

_SHOWN = ("reglab.regularizer", "reglab.strength", "reglab.task", "reglab.job")  # tags that tell runs of a sweep apart


@dataclass(frozen=True)
class DescribedRun:
    """A run, as other tools show it.

    Args:
        run_id: The same whenever it is written.
        project: The study.
        group: The sweep; None for a single run.
        config: Params by dotted key, as numbers where they are.
    """

    run_id: str
    name: str
    project: str
    group: str | None
    config: Mapping[str, Any]


def described_run(folder: Path) -> DescribedRun:
    """Return what is known of the run in ``folder``.

    Raises:
        UserError: Where that cannot be read.
    """
    identity = read_identity(folder)
    start = next((read_start(folder, name) for name in (START, CREATED) if (folder / name).exists()), None)
    if start:
        run_id, project, params, tags, parent = start.run_id, start.experiment, start.params, start.tags, start.parent
    else:
        params, state = json.loads((folder / "params.json").read_text(encoding="utf-8")), read_state(folder)
        tags = state.tags if state else {}
        project = _value(params.get("tracking.experiment", "null")) or environment.experiment_name()
        run_id, parent = identity.run_id, tags.get("mlflow.parentRunId")
    told = {key: tags[key] for key in _SHOWN if key in tags}
    config = {key: _value(text) for key, text in {**shown(params), **told}.items()}
    return DescribedRun(run_id, identity.name, str(project), _group(folder, parent), config)


def rows_by_step(curves: Mapping[str, "Curve"]) -> list[tuple[int, int, dict[str, float]]]:
    """Return (step, its last timestamp in milliseconds, values by key), by step."""
    rows: dict[int, dict[str, float]] = {}
    times: dict[int, int] = {}
    for key, curve in curves.items():
        for step, value, time in zip(*(column.tolist() for column in curve), strict=True):
            rows.setdefault(step, {})[key] = value
            times[step] = max(times.get(step, time), time)
    return [(step, times[step], rows[step]) for step in sorted(rows)]


def _value(text: str) -> Any:
    """Return a param as what was written: ``flatten`` leaves text bare, and the rest as JSON."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def _group(folder: Path, parent: str | None) -> str | None:
    """Return the sweep's name and the start of its id: two sweeps may have the same name."""
    if parent is None:
        return None
    with suppress(UserError):
        sweep = read_identity(folder.parent)
        if parent in sweep.ids:
            return f"{sweep.name} {parent[:6]}"
    return parent
