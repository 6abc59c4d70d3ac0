"""A command in a pseudo-terminal, as a person runs it: started, asked as a server, ended by Ctrl-C."""

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import requests

from tracking.admin.dashboard_process import REGLAB

_DEADLINE = 180  # seconds; a loaded machine needs some 40 for the imports of MLflow's server


def in_terminal(folder: Path, words: tuple[str, ...], password: str) -> dict[str, Any]:
    """Run ``reglab`` in a terminal, ask what it serves, press Ctrl-C, and return what was seen.

    answers: HTTP status by question. jobs: job runners among its processes. code: its exit code.
    after: what it printed behind the Ctrl-C. left: its processes that are still there.
    """
    near, far = pty.openpty()
    # `setsid --ctty` in the child makes the terminal its own, so that the key reaches it as a
    # signal.
    command = ["setsid", "--ctty", "--wait", str(REGLAB), *words]
    # Under a test or in continuous integration MLflow sends nothing anyway: it must not see that it
    # is.
    known = {key: value for key, value in os.environ.items() if key not in ("PYTEST_CURRENT_TEST", "CI")}
    process = subprocess.Popen(command, cwd=folder, stdin=far, stdout=far, stderr=far, env=known)
    os.close(far)
    try:
        with closing(_printed(near)) as printed:
            address = _address(printed)
            family = psutil.Process(process.pid).children(recursive=True)
            found = {
                "answers": _answers(address, password),
                "jobs": [line for each in family if "job" in (line := " ".join(each.cmdline()))],
            }
            os.write(near, b"\x03")
            found["after"] = "".join(printed)
        found["code"] = process.wait(timeout=_DEADLINE)
        found["left"] = [each.pid for each in family if each.is_running()]
    finally:
        process.kill()
        process.wait()
        os.close(near)
    return found


def _printed(near: int) -> Iterator[str]:
    """Yield what the terminal shows, an empty text twice a second while it is silent, until nobody writes to it."""
    while True:
        text = ""
        if select.select([near], [], [], 0.5)[0]:
            try:
                text = os.read(near, 65_536).decode(errors="replace")
            except OSError:  # the last writer has gone
                return
        yield text


def _address(printed: Iterator[str]) -> str:
    """Return the address that was printed, once a server answers there."""
    seen, limit = "", time.monotonic() + _DEADLINE
    for text in printed:
        seen += text
        if (match := re.search(r"http://[\d.]+:\d+", seen)) and _is_healthy(match[0]):
            return match[0]
        assert time.monotonic() < limit, seen
    raise AssertionError(f"it ended before it served anything:\n{seen}")


def _is_healthy(address: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{address}/health", timeout=10).text == "OK"
    return False


def _answers(address: str, password: str) -> dict[str, Any]:
    def ask(user: str | None, **headers: str) -> requests.Response:
        return requests.post(
            f"{address}/ajax-api/2.0/mlflow/experiments/search",
            json={"max_results": 1},
            auth=(user, password) if user else None,
            headers=headers,
            timeout=60,
        )

    named = f"lab.example.org:{address.rpartition(':')[2]}"
    login = ("admin", password)
    telemetry = requests.get(f"{address}/ajax-api/3.0/mlflow/ui-telemetry", auth=login, timeout=60).json()
    return {
        "nobody": ask(None).status_code,
        "admin": ask("admin").status_code,
        "admin of another name": ask("admin", Host=named).status_code,
        "foreign host": ask("admin", Host="elsewhere.example.org").status_code,
        "foreign origin": ask("admin", Origin="http://elsewhere.example.org").status_code,
        "own origin": ask("admin", Host=named, Origin=f"http://{named}").status_code,
        "browser sends nothing": telemetry["disable_ui_telemetry"],
    }
