"""The short form of scripts/chaos/server_away.py: its contents decide; its timings are for people to read."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_server_that_flaps_has_every_row_once():
    command = [sys.executable, "scripts/chaos/server_away.py", "--seconds", "4", "--flaps", "2", "--up", "1"]
    # MLflow waits between its own tries; a test has no time for that, and the journal sends again anyway.
    quick = os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(command, cwd=ROOT, env=quick, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["wrong"] == ""
    assert figures["steps"]["away"] > 0
    assert done.stderr.count("Training goes on") >= 1
