"""The process that workers are forked from."""

import os
import subprocess
import sys
from pathlib import Path

START = "from reglab.sweeps.local import start_server; start_server(['imported_for_long'], 1)"


def test_the_fork_server_ends_with_the_command_whatever_it_is_importing(tmp_path: Path) -> None:
    (tmp_path / "imported_for_long.py").write_text("import time; time.sleep(600)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # our end of the pipe is read until everyone has closed the other
    ran = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
