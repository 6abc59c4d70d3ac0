"""A run as a run of trackio, in its local database."""

import getpass
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reglab.core.errors import UserError
from reglab.tracking.described_run import described_run, rows_by_step

if TYPE_CHECKING:
    from reglab.tracking.full_series import Curve

_REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


def check_trackio(project: str) -> None:
    """Raise UserError where trackio would not take the run.

    Args:
        project: The name of the experiment.
    """
    from trackio.sqlite_storage import SQLiteStorage

    for name in _REMOTE:
        if os.environ.get(name):
            raise UserError(
                f"{name} is set, but tracking.also=[trackio] writes trackio's local database alone: unset it, and send "
                "the project by trackio sync when the runs have ended"
            )
    try:
        SQLiteStorage.validate_project_name(project)
    except ValueError as error:
        raise UserError(f"tracking.experiment={project} cannot be a project of trackio: {error}") from error


def write_trackio(folder: Path, curves: Mapping[str, "Curve"]) -> None:
    """Write the run in ``folder`` into trackio's database; the one of an earlier end is replaced.

    Args:
        folder: Of the run.
        curves: All metric rows by key.
    """
    from trackio.sqlite_storage import SQLiteStorage

    run, rows = described_run(folder), rows_by_step(curves)
    config = {
        **run.config,
        "_Username": getpass.getuser(),
        "_Created": _iso(min(timestamp for _, timestamp, _ in rows)),
        "_Group": run.group,
    }
    SQLiteStorage.delete_run(run.project, run.name, run.run_id)
    SQLiteStorage.bulk_log(
        run.project,
        run.name,
        [metrics for _, _, metrics in rows],
        steps=[step for step, _, _ in rows],
        timestamps=[_iso(timestamp) for _, timestamp, _ in rows],
        config=config,
        run_id=run.run_id,
    )


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
