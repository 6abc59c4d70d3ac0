"""Commands whose text crosses a border: to a terminal, a URL, Hydra, a shell."""

import os
import subprocess
import sys
from pathlib import Path

SMALL = ["data=wine", "trainer.max_epochs=1", "model.width=4"]


def reglab(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "reglab", *words]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, timeout=300)


def test_a_sweep_ends_well_on_a_terminal_that_cannot_show_its_table(tmp_path):
    sweep = ["train", "-m", *SMALL, "regularizer=[l2]", "regularizer.l2.strength=0.01,0.1"]
    ended = reglab(*sweep, folder=tmp_path, PYTHONIOENCODING="latin-1")
    assert ended.returncode == 0, ended.stderr.decode("latin-1")
    told = ended.stdout.decode("latin-1")
    assert "< choice" in told
    assert "val loss ±SE" in told
    assert list(tmp_path.glob("runs/*/*/report.html"))
