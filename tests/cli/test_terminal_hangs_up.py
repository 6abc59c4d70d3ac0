"""A terminal that hangs up: training saves and ends KILLED, and no process outlives it."""

import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from reglab.tracking import last_status

COMMON = ("data=wine", "data.batch_size=16", "model.width=6", "trainer.max_epochs=100000", "trainer.accelerator=cpu",
          "tracking=offline")  # fmt: skip
SWEEP = ("regularizer=[l2]", "regularizer.l2.strength=0.1,0.2", "hydra.launcher.workers=2", "hydra.sweep.dir=out")
COMMANDS = {"single": ("train", *COMMON, "hydra.run.dir=out/0"), "sweep": ("train", "-m", *COMMON, *SWEEP)}


def trained(folder: Path, jobs: int) -> bool:
    """Whether so many runs have recorded some epochs."""
    return sum('"step":100,' in path.read_text() for path in folder.glob("*/journal.jsonl")) >= jobs


@pytest.mark.parametrize("kind, jobs", [("single", 1), pytest.param("sweep", 2, marks=pytest.mark.long)])
def test_training_is_saved_and_ended_when_its_terminal_hangs_up(kind: str, jobs: int, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", START, *COMMANDS[kind]],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    said = b""
    while not trained(tmp_path / "out", jobs):
        with suppress(BlockingIOError):
            said += os.read(ours, 65_536)  # else the terminal is full, and they wait
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
            raise AssertionError(said.decode(errors="replace"))
    children = psutil.Process(process.pid).children(recursive=True)
    os.close(ours)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert [last_status(tmp_path / "out" / str(number)) for number in range(jobs)] == ["KILLED"] * jobs
    assert len(list((tmp_path / "out").rglob("*.ckpt"))) >= 1


# The terminal becomes the one that controls the session: only then its end is a signal.
START = """
import fcntl, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from reglab.cli.command import main
sys.exit(main(sys.argv[1:]))
"""
