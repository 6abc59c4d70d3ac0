"""MLflow's client with a limit on the total time of each call.

MLflow limits the time between two bytes of an answer, and waits as long as a server asks for in
``Retry-After``: a server that sends a byte a second would be waited for without end.
"""

import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, TypeVar, cast

from mlflow import MlflowClient
from mlflow.environment_variables import (
    MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)

from reglab.tracking.settings import redacted

T = TypeVar("T")
_QUIET_SECONDS = 5.0  # of waiting without a word
_FACTOR = 2  # on the time that MLflow's own tries take: pauses between them, slow answers
_BYTES_A_SECOND = 100_000  # an artifact gets so much longer for its size
_DOWNLOAD_SECONDS = 3_600
_UPLOADS = ("log_artifact", "log_artifacts")


class _LimitedClient:
    """Calls the methods of an ``MlflowClient``, each for a limited time."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client, self._uri = client, uri

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            seconds = call_seconds()
            if name in _UPLOADS:
                seconds = _artifact_seconds() or seconds + _size(Path(arguments[1])) / _BYTES_A_SECOND
            return within(seconds, self._uri, lambda: method(*arguments, **named))

        return call


def limited(client: MlflowClient, uri: str) -> MlflowClient:
    """Return a client of the server at ``uri`` whose calls raise TimeoutError after ``call_seconds``.

    An upload gets a second more for each 100 kB.
    """
    return cast(MlflowClient, _LimitedClient(client, uri))


def call_seconds() -> float:
    """Return how long one call may take: twice the time that MLflow's tries may take without a byte.

    That is 2 x MLFLOW_HTTP_REQUEST_TIMEOUT x (1 + MLFLOW_HTTP_REQUEST_MAX_RETRIES).
    """
    tries = 1 + int(MLFLOW_HTTP_REQUEST_MAX_RETRIES.get())  # type: ignore[no-untyped-call]  # MLflow's
    return float(_FACTOR * MLFLOW_HTTP_REQUEST_TIMEOUT.get() * tries)  # type: ignore[no-untyped-call]


def download(uri: str, call: Callable[[], T]) -> T:
    """Return what ``call`` does, which fetches artifacts of the server at ``uri``.

    Raises:
        TimeoutError: After MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT seconds, an hour if not set.
    """
    return within(_artifact_seconds() or _DOWNLOAD_SECONDS, uri, call)


def within(seconds: float, uri: str, call: Callable[[], T]) -> T:
    """Return what ``call`` returns, or raise what it raises.

    After some seconds a line on the terminal says what is waited for. Ctrl-C ends the wait.

    Raises:
        TimeoutError: Where it takes longer than ``seconds``. It is left behind in a daemon thread.
    """
    outcome: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            outcome.append((False, error))

    thread = threading.Thread(target=run, name="reglab-mlflow-call", daemon=True)
    thread.start()
    thread.join(min(_QUIET_SECONDS, seconds))
    if thread.is_alive() and seconds > _QUIET_SECONDS:
        _tell(uri, seconds)
        thread.join(seconds - _QUIET_SECONDS)
    if not outcome:
        raise TimeoutError(f"it does not answer within {seconds:.0f} s, see MLFLOW_HTTP_REQUEST_TIMEOUT")
    returned, value = outcome[0]
    if not returned:
        raise value
    return cast(T, value)


def _tell(uri: str, seconds: float) -> None:
    """Say what the terminal waits for; training waits for nothing, so its threads say nothing."""
    if threading.current_thread() is threading.main_thread() and parent_process() is None:
        print(f"waiting for {redacted(uri)}, {seconds:.0f} s at most; Ctrl-C ends it", file=sys.stderr, flush=True)


def _artifact_seconds() -> float:
    return float(MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT.get() or 0)  # type: ignore[no-untyped-call]


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum((Path(folder) / name).stat().st_size for folder, _, names in os.walk(path) for name in names)
