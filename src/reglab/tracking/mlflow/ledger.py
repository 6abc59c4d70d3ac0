"""Find earlier sweeps in MLflow."""

from dataclasses import dataclass

from reglab.core.errors import UserError
from reglab.core.terminal import inline
from reglab.tracking.folder import FOLDER as FOLDER
from reglab.tracking.mlflow.store import UNREACHABLE, connect, experiment, reason
from reglab.tracking.settings import TrackingSettings, redacted

FINGERPRINT = "reglab.sweep_fingerprint"


@dataclass(frozen=True)
class SweepRecord:
    """The parent run of a sweep.

    Args:
        folder: Where it ran, on the machine that it ran on.
    """

    run_id: str
    name: str
    folder: str


def newest_sweep(settings: TrackingSettings, fingerprint: str) -> SweepRecord | None:
    """Return the newest sweep of this fingerprint in the settings' experiment, or None.

    Raises:
        UserError: Where the store cannot be read.
    """
    client = connect(settings.uri)
    number = str(experiment(client, settings).experiment_id)
    query = f"tags.`{FINGERPRINT}` = '{fingerprint}'"
    try:
        runs = client.search_runs([number], query, max_results=1, order_by=["attributes.start_time DESC"])
    except UNREACHABLE as error:
        raise UserError(f"cannot read {redacted(settings.uri)}: {reason(error)}") from error
    return next(
        (SweepRecord(run.info.run_id, inline(run.info.run_name), run.data.tags.get(FOLDER, "")) for run in runs), None
    )


def finish_killed(uri: str, run_id: str) -> None:
    """End a run KILLED whose process is gone and whose folder is not at hand.

    Raises:
        UserError: As above.
    """
    try:
        connect(uri, create=False).set_terminated(run_id, "KILLED")
    except UNREACHABLE as error:
        raise UserError(f"{redacted(uri)} could not store the end of the run {run_id}: {reason(error)}") from error
