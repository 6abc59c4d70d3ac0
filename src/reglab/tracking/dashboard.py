"""The dashboard: MLflow's own UI over a store, on loopback."""

import os
import socket
import sqlite3
import sys
from contextlib import closing
from typing import NoReturn

from reglab.errors import UserError
from reglab.tracking.settings import redacted, sqlite_path

_TRIES = 50


def serve(uri: str, host: str = "127.0.0.1", port: int = 5000) -> NoReturn:
    """Become MLflow's server over the store at ``uri``; Ctrl-C ends it. Another free port is taken if need be.

    Raises UserError where there is nothing to show yet, or where ``uri`` is a server that has its own dashboard.
    """
    command = server_command(uri, host, free_port(host, port))
    address = f"http://{host}:{command[-1]}/{latest_page(uri)}"
    print(f"Dashboard: {address} (ready in some seconds; Ctrl-C ends it)", flush=True)
    # Seven job runners of 230 MB each would start with it, for features that runs do not use.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    os.execve(command[0], command, environment)


def server_command(uri: str, host: str, port: int) -> list[str]:
    """Return the command line of the server. Raises UserError as ``serve`` does."""
    path = sqlite_path(uri)
    if path is None:
        raise UserError(f"the runs are on the server {redacted(uri)}: open that address in a browser")
    if not path.exists():
        raise UserError(f"there is nothing to show: {path} does not exist yet. Run something first: reglab train")
    artifacts = (path.parent / "mlartifacts").as_uri()
    return [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--uvicorn-opts", "--log-level warning"),  # else a line in the terminal for every request of the page
        *("--registry-store-uri", uri, "--backend-store-uri", uri),
        *("--default-artifact-root", artifacts, "--artifacts-destination", artifacts),
        *("--host", host, "--port", str(port)),
    ]


def latest_page(uri: str) -> str:
    """Return the page of the experiment that was last run in, empty where there is none.

    MLflow's start page leads to its tools for language models, where runs are not shown.
    """
    path = sqlite_path(uri)
    if path is None:
        return ""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            found = store.execute("SELECT experiment_id FROM runs ORDER BY start_time DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return ""
    return f"#/experiments/{found[0]}?workflowType=machine_learning" if found else ""


def free_port(host: str, first: int) -> int:
    """Return the first port from ``first`` on that nothing listens on. Raises UserError if none of fifty is free."""
    for port in range(first, min(first + _TRIES, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
            try:
                probe.bind((host, port))
            except PermissionError as error:
                raise UserError(f"port {port} needs special rights: choose one from 1024 on") from error
            except OSError:
                continue
            return port
    raise UserError(f"no free port on {host} from {first} to {first + _TRIES - 1}: choose another with port=")
