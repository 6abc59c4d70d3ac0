"""A task function for ``hydra/launcher=process`` without torch."""

import json
import os
import signal
from pathlib import Path

from omegaconf import DictConfig

from launchers.standin import Progress, Result
from reglab.config.job_request import take
from reglab.core.errors import UserError
from reglab.launchers.events import reporter

SEEN = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "RANK", "WORLD_SIZE")


def task(config: DictConfig) -> Result:
    """Do ``config.act``, after leaving a line about this process behind."""
    job = take(config).number
    tries = _note(Path(config.folder) / f"job-{job}")
    if config.act == "refuse":
        raise UserError("strength must be finite and >= 0, got -1")
    report = reporter()
    if report is not None:
        report(Progress(1, 1, {"val/loss": 0.5}))
    if config.act == "exhaust":
        raise MemoryError("out of memory")
    if config.act == "late":
        raise UserError("the trainer does not like it")
    if config.act == "grow":
        config = b"x" * 600_000_000
        while config:
            signal.pause()
    if config.act == "wait":
        return _wait()
    if config.act == "deaf":
        while True:
            _wait()
    what, _, times = str(config.act).partition("-")
    if times and tries <= int(times):
        os.kill(os.getpid(), {"die": signal.SIGKILL, "term": signal.SIGTERM}[what])
    return Result(f"run-{job}", "FINISHED", "", {"pid": float(os.getpid()), "tries": float(tries)})


def on_ranks(config: DictConfig) -> Result:
    """Do ``config.act`` on the last rank, while rank 0 waits for it as in a collective."""
    last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    tries = _note(Path(config.folder) / f"rank-{os.environ['RANK']}")
    what, _, times = str(config.act).partition("-")
    if tries > int(times):
        return Result("r", "FINISHED", "", {"pid": float(os.getpid()), "tries": float(tries)})
    if not last:
        while True:
            signal.pause()
    if what == "raise":
        raise ValueError("a bug of one rank")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


def _note(file: Path) -> int:
    """Return how many processes have been here, this one included."""
    with file.open("a") as lines:
        visible = {name: os.environ.get(name) for name in SEEN}
        lines.write(json.dumps({"pid": os.getpid(), "group": os.getpgrp(), **visible}) + "\n")
    return len(file.read_text().splitlines())


def _wait() -> Result:
    try:
        while True:
            signal.pause()  # ended by the signal that asks it to
    except KeyboardInterrupt:
        return Result("r", "KILLED", "interrupted")
