"""An MLflow server that can be killed and started again, on loopback, with everything it keeps in one folder."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# Seconds; migrations of a fresh store take 10, several times that on a loaded machine.
_DEADLINE = 180
_SAFE = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


class MlflowServer:
    """MLflow's server over the database at ``store``; artifacts go through it into ``folder``.

    options: more words of its command line. environment: more variables, such as those of its user
    administration.
    """

    def __init__(
        self, folder: Path, store: str, options: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder, self._process = folder, None
        # What the caller logs in with, and which store it means, are not the server's.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING_")}
        # The store's address holds a password, and every user of a machine sees the command lines
        # of all.
        self._environment = inherited | _SAFE | {"MLFLOW_BACKEND_STORE_URI": store} | dict(environment or {})
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
            *("--port", str(self.port), "--uvicorn-opts", "--log-level warning"),
            *("--artifacts-destination", (folder / "artifacts").as_uri(), *options),
        ]

    def start(self) -> None:
        """Start it and return once it answers."""
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        limit = time.monotonic() + _DEADLINE
        while time.monotonic() < limit:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.1)
                break
            if self._answers():
                return
        said = (self._folder / "server.log").read_text()
        self.kill()
        raise RuntimeError(f"the MLflow server did not start:\n{said[-4_000:]}")

    def kill(self) -> None:
        """End it and its workers at once, as a lost machine would.

        Nothing happens where it does not run.
        """
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=10) as answer:
                return bool(answer.read() == b"OK")
        except OSError:
            return False


def free_port() -> int:
    """Return a port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
