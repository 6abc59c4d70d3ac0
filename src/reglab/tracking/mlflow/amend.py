"""Add metrics and tags to finished runs."""

import time
from collections.abc import Mapping

from mlflow.entities import Metric, RunTag

from reglab.core.errors import UserError
from reglab.tracking.mlflow.store import UNREACHABLE, connect, reason
from reglab.tracking.settings import redacted
from reglab.tracking.store_keys import store_key


def amend(uri: str, run_id: str, metrics: Mapping[str, float], step: int, tags: Mapping[str, str]) -> None:
    """Add metrics, at ``step``, and tags to a run; its status stays as it is.

    Args:
        uri: The store.
        run_id: The run in that store.
        metrics: Values by key.
        step: Their step.
        tags: Values by key.

    Raises:
        UserError: Where the store does not accept them.
    """
    now = int(time.time() * 1000)
    try:
        connect(uri, create=False).log_batch(
            run_id,
            metrics=[Metric(store_key(key), value, now, step) for key, value in metrics.items()],
            tags=[RunTag(store_key(key), value) for key, value in tags.items()],
        )
    except UNREACHABLE as error:
        raise UserError(f"{redacted(uri)} could not store results of the run {run_id}: {reason(error)}") from error
