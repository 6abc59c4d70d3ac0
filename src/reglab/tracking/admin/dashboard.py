"""The dashboard: MLflow's own UI over a store, on loopback unless users and addresses are named."""

import errno
import os
import secrets
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import closing, suppress

from reglab.core.errors import UserError
from reglab.core.terminal import inline
from reglab.processes.child_processes import SAFE_PATH, kill_group, signal_group
from reglab.tracking.admin.dashboard_access import Access
from reglab.tracking.mlflow import sql
from reglab.tracking.settings import beside, client_uri, redacted, sqlite_path

_PATIENCE = 10.0  # seconds, for pending responses
_INSTALLED = sysconfig.get_path("purelib")
_ENVIRONMENT = {
    # Seven processes of 230 MB each, for what runs do not use.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Else an artifact can run code when it is loaded.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PYTHONWARNINGS": "ignore",  # of MLflow's own imports, which its users can do nothing about
}


def run_server(command: list[str], environment: dict[str, str]) -> int:
    """Run ``command`` and return its exit code, or 0 where this process was interrupted.

    Interrupted itself, MLflow prints a traceback; so it gets no Ctrl-C (it has a session of its
    own), but SIGTERM.
    """
    handled = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.default_int_handler) for number in handled}
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        signal_group(server, signal.SIGTERM)
        # a second Ctrl-C waits no longer.
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            server.wait(_PATIENCE)
        return 0
    finally:
        kill_group(server)  # also a worker that outlived it
        server.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(
    uri: str,
    port: int = 5000,
    access: Access | None = None,
    run: Callable[[list[str], dict[str, str]], int] = run_server,
) -> int:
    """Run MLflow's server over the store at ``uri`` until interrupted; return the exit code.

    Another free port from ``port`` on is taken if need be. Ctrl-C ends it with 0.

    Args:
        uri: A SQLite store.
        port: The first one to try.
        access: Who may reach it; None: this machine alone.
        run: Runs a command in an environment and returns its exit code.

    Raises:
        UserError: Where there is nothing to show yet, or where ``uri`` is a server that has its own
            dashboard.
    """
    access = access or Access()
    command = server_command(uri, free_port(access.host, port), access)
    address = f"http://{_in_url(access.host)}:{_value(command, '--port')}/{latest_page(uri)}"
    print(f"Dashboard: {address} (ready in some seconds; Ctrl-C ends it)", flush=True)
    return run(command, server_environment(access))


def server_command(uri: str, port: int, access: Access) -> list[str]:
    """Return the command line of the server.

    Raises:
        UserError: As ``serve`` does.
    """
    path = sqlite_path(uri)
    if path is None:
        raise UserError(f"the runs are on the server {redacted(uri)}: open that address in a browser")
    if not path.exists():
        raise UserError(f"there is nothing to show: {path} does not exist yet. Run something first: reglab train")
    with suppress(sqlite3.Error), sql.connection(path) as found:  # MLflow reports what is damaged
        if (name := sql.acting(found)) is not None:
            raise sql.acting_error(path, name)
    artifacts, store = beside(path), client_uri(uri)
    return [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        # Else a line in the terminal for every request of the page; and modules of the working folder come first.
        *("--uvicorn-opts", f"--log-level warning --app-dir {shlex.quote(_INSTALLED)}"),
        *("--registry-store-uri", store, "--backend-store-uri", store),
        *("--default-artifact-root", artifacts, "--artifacts-destination", artifacts),
        *access.options(port),
    ]


def server_environment(access: Access) -> dict[str, str]:
    """Return the environment of the server: what the user has set already stays.

    Modules of the working folder are not found there: it may be a stranger's.
    """
    environment = _ENVIRONMENT | dict(os.environ) | SAFE_PATH
    if access.auth:
        environment["MLFLOW_AUTH_CONFIG_PATH"] = str(access.auth.resolve())
        environment.setdefault("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32))
    return environment


def latest_page(uri: str) -> str:
    """Return the page of the experiment that was last run in, empty where there is none.

    MLflow's start page leads to its tools for language models, where runs are not shown.
    """
    path = sqlite_path(uri)
    if path is None:
        return ""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as store:
            row = store.execute("SELECT experiment_id FROM runs ORDER BY start_time DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return ""
    return f"#/experiments/{inline(row[0])}?workflowType=machine_learning" if row else ""


def free_port(host: str, first: int, tries: int = 50) -> int:
    """Return the first port from ``first`` on that nothing listens on.

    Raises:
        UserError: If none of ``tries`` ports is free, or ``host`` is no address of this machine.
    """
    for port in range(first, min(first + tries, 65_536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # a port that was just left is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except PermissionError as error:
                raise UserError(f"port {port} needs special rights: choose one from 1024 on") from error
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise UserError(f"--host {host} is no address of this machine ({error.strerror})") from error
            return port
    raise UserError(f"no free port on {host} from {first} to {first + tries - 1}: choose another with --port")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]
