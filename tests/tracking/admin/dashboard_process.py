"""`reglab dashboard` as a process of its own, over the store of a folder, and the browser to look at it with."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REGLAB = Path(sys.executable).with_name("reglab")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_DEADLINE = 120  # seconds; a loaded machine needs some 20 for the imports of MLflow's server


def browser_path() -> str | None:
    """Return the path of an installed Chromium or Chrome, None if there is none."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def dashboard(folder: Path) -> Iterator[str]:
    """Start the dashboard over the store in ``folder`` and give its address once it answers.

    Ctrl-C ends it.
    """
    output = folder / "dashboard.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [REGLAB, "dashboard", "--port", "5500"], cwd=folder, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield _address(process, output)
    finally:
        # It ends its server, which a kill would leave.
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=30)
        with suppress(ProcessLookupError):  # nothing is left of it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _address(process: subprocess.Popen[bytes], output: Path) -> str:
    """Return the address that the dashboard prints, once a server answers there."""
    limit = time.monotonic() + _DEADLINE
    while time.monotonic() < limit:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
            break
        address = re.search(r"http://([\d.]+:\d+)", output.read_text())
        if address and _healthy(address[1]):
            return address[0]
    raise AssertionError(f"the dashboard did not start (exit code {process.poll()}):\n{output.read_text()}")


def _healthy(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().read() == b"OK"
    except OSError:
        return False
    finally:
        connection.close()
