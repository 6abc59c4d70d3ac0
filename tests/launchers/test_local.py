"""The process that workers are forked from, and the ends that a sweep records for its workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reglab.launchers.events import Ended
from reglab.launchers.listener import record_end
from reglab.tracking import TrackingSettings, open_run
from reglab.tracking.run_state import last_status

START = "from reglab.launchers.local import start_server; start_server(['imported_for_long'], 1)"


def test_the_fork_server_ends_with_the_command_whatever_it_is_importing(tmp_path: Path) -> None:
    (tmp_path / "imported_for_long.py").write_text("import time; time.sleep(600)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # our end of the pipe is read until everyone has closed the other
    ran = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "recorded, told, kept",
    [
        ("KILLED", "FAILED", "FAILED"),  # it was asked to end, for it took too long
        ("FINISHED", "FAILED", "FINISHED"),
        ("FAILED", "KILLED", "FAILED"),
    ],
)
def test_what_a_worker_recorded_itself_stays_but_for_one_that_took_too_long(recorded, told, kept, tmp_path):
    run = open_run(
        TrackingSettings("none", "", "tests", None), name="job", folder=tmp_path / "3", config={}, params={}, tags={}
    )
    run.finish(recorded)
    record_end(Ended(3, told, "a reason"), tmp_path / "3")
    assert last_status(tmp_path / "3") == kept
