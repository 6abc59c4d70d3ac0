"""Sink that sends journals through MLflow's client."""

from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException

from reglab.core.errors import UserError
from reglab.tracking.artifacts import local_home, storable
from reglab.tracking.artifacts_left import Artifact, ArtifactLeft
from reglab.tracking.copies import CLAIM, elsewhere, is_claimed_elsewhere, succession
from reglab.tracking.mlflow.denied import refused_status
from reglab.tracking.mlflow.store import UNREACHABLE, reason
from reglab.tracking.payload import Payload, Refused, Unsent, chunks
from reglab.tracking.settings import redacted, sqlite_path
from reglab.tracking.store_gate import check_artifact_store
from reglab.tracking.store_keys import store_key

_METRICS_A_CALL = 1_000  # MLflow's limits
_TAGS_A_CALL = 100
_TOO_LARGE = 413
OF_THE_RUN = (
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST",
)  # the store itself is well


def is_refusal(error: Exception) -> bool:
    """Return whether a store answered, and did not take this; else nothing may have reached it."""
    return not isinstance(error, UNREACHABLE) or refused_status(error) is not None


def refusal(error: Exception) -> str:
    """Return in one sentence why a store did not take an artifact."""
    if refused_status(error) == _TOO_LARGE:
        return "HTTP 413: it is larger than the server, or a proxy before it, lets through; raise that limit"
    return reason(error)


class MlflowSink:
    """Sends payloads of runs to the store at ``uri``.

    Sending any part of a payload again changes nothing.
    """

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client, self._uri = client, uri
        self._checked: set[str] = set()  # runs whose artifacts may go where the store keeps them

    def send(self, payloads: Sequence[Payload]) -> None:
        """Store payloads, the status of a run last.

        Raises:
            Refused: Where it does not accept one of the runs.
            Unsent: Where it takes nothing.
        """
        for payload in payloads:
            try:
                self._claim(payload)
                self._send_rows(payload)
            except UNREACHABLE as error:
                refused = isinstance(error, MlflowException) and error.error_code in OF_THE_RUN
                message = f"{redacted(self._uri)} could not store the run {payload.identity.run_id} ({reason(error)})"
                raise (Refused if refused else Unsent)(message) from error

    def send_artifact(self, run_id: str, home: Path, artifact: Artifact) -> None:
        """Store one artifact of the run in ``home``.

        Raises:
            ArtifactLeft: Where the server, or the artifact store behind it, does not take it.
        """
        path = storable(home, *artifact, run_id)
        if path is None:
            return
        self._check_home(run_id)
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        try:
            log(run_id, str(path), artifact[1] or None)
        except Exception as error:
            raise ArtifactLeft(refusal(error), others=is_refusal(error)) from error

    def _check_home(self, run_id: str) -> None:
        if sqlite_path(self._uri) is None or run_id in self._checked:  # a server decides
            return
        home = str(self._client.get_run(run_id).info.artifact_uri)
        try:
            check_artifact_store(home, self._uri)
            local_home(home, run_id)
        except UserError as error:
            raise ArtifactLeft(str(error)) from error
        self._checked.add(run_id)

    def _claim(self, payload: Payload) -> None:
        """Claim a run that is resumed after an earlier process, see ``copies``; or check the claim.

        A tag is read and then set, so two copies could both find it theirs. A param can be set once
        only: which copy succeeds an earlier claim, the store decides.
        """
        run_id, claims = payload.identity.run_id, payload.identity.claims
        while claims:
            data = self._client.get_run(run_id).data
            stored = data.tags.get(CLAIM)
            if is_claimed_elsewhere(claims, stored):
                raise Refused(elsewhere(run_id))
            if stored == claims[-1]:
                return
            successor = data.params.get(succession(stored)) or self._succeed(run_id, succession(stored), claims[-1])
            if successor not in claims:
                raise Refused(elsewhere(run_id))
            self._client.set_tag(run_id, CLAIM, successor)

    def _succeed(self, run_id: str, key: str, claim: str) -> str:
        """Set the param ``key`` to ``claim`` unless another process has set it, and return its value."""
        try:
            self._client.log_param(run_id, key, claim)
        except MlflowException:
            found = self._client.get_run(run_id).data.params.get(key)
            if found is None:
                raise
            return str(found)
        return claim

    def _send_rows(self, payload: Payload) -> None:
        run_id = payload.identity.run_id
        for rows in chunks(payload.rows(), _METRICS_A_CALL):
            metrics = [Metric(store_key(row.key), row.value, row.timestamp, row.step) for row in rows]
            self._client.log_batch(run_id, metrics=metrics)
        for tags in chunks(payload.tags.items(), _TAGS_A_CALL):
            self._client.log_batch(run_id, tags=[RunTag(store_key(key), value) for key, value in tags])
        if payload.status:
            status, time = payload.status
            if status == "RUNNING":
                self._client.update_run(run_id, status)
            else:
                self._client.set_terminated(run_id, status, time)
