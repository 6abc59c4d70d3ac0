"""A store that is connected to when there is something to send, so that going on with a run never waits for it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reglab.errors import UserError
from reglab.tracking.batch import Batch, Unsent

if TYPE_CHECKING:
    from reglab.tracking.mlflow_sink import MlflowSink


class LateSink:
    """Takes batches for the store at ``uri``; while it cannot be opened, they are unsent."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._sink: MlflowSink | None = None

    def send(self, batches: Sequence[Batch]) -> None:
        """Do as ``MlflowSink.send``."""
        if self._sink is None:
            from reglab.tracking.mlflow_sink import MlflowSink
            from reglab.tracking.mlflow_store import connect

            try:
                self._sink = MlflowSink(connect(self._uri, create=False), self._uri)
            except UserError as error:
                raise Unsent(str(error)) from error
        self._sink.send(batches)
