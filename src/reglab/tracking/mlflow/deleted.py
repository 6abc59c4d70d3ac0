"""Runs that were deleted in MLflow."""

from mlflow.entities import ViewType

from reglab.core.errors import UserError
from reglab.tracking.mlflow.store import UNREACHABLE, connect, reason
from reglab.tracking.settings import redacted

_PAGE = 1_000


def deleted_runs(uri: str) -> dict[str, str]:
    """Return the artifact URI of each run that was deleted, by its id. Raises UserError where the store is away."""
    client = connect(uri, create=False)
    found: dict[str, str] = {}
    token: str | None = None
    try:
        experiments = [str(each.experiment_id) for each in client.search_experiments(ViewType.ALL)]
        while True:
            page = client.search_runs(experiments, "", ViewType.DELETED_ONLY, _PAGE, page_token=token)
            found |= {str(run.info.run_id): str(run.info.artifact_uri) for run in page}
            token = page.token
            if not token:
                return found
    except UNREACHABLE as error:
        raise UserError(f"cannot read {redacted(uri)}: {reason(error)}") from error
