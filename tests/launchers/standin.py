"""A task function without torch that does what its config asks for."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from reglab.config.job_request import take
from reglab.core.errors import UserError
from reglab.launchers.events import reporter


@dataclass
class Progress:
    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass
class Result:
    run_id: str
    status: str
    message: str
    metrics: dict[str, float] = field(default_factory=dict)


def task(config: DictConfig) -> Result:
    """Do ``config.act``: finish, diverge, refuse, crash, die or wait (until it is interrupted)."""
    request, report = take(config), reporter()
    job = request.number if request else None
    if report is not None:
        report(Progress(1, 1, {"val/loss": 0.5}))
    if config.act == "diverge":
        return Result("r", "FAILED", "the loss diverged at step 7")
    if config.act == "refuse":
        raise UserError("strength must be finite and >= 0, got -1")
    if config.act == "crash":
        raise RuntimeError("a bug")
    if config.act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.act == "wait":
        return _wait(Path(config.folder), job)
    loss = float(config.optimizer.lr)
    return Result(f"run-{job}", "FINISHED", "", {"val/loss": loss, "pid": float(os.getpid())})


def note_request(config: DictConfig) -> Result:
    """Leave the job's request and config behind."""
    request = take(config)
    assert request is not None
    Path(config.folder, f"request-{request.number}").write_text(repr(request))
    return Result(f"run-{request.number}", "FINISHED", "")


def _wait(folder: Path, job: int) -> Result:
    (folder / f"waiting-{job}").touch()
    try:
        while True:
            time.sleep(60)  # ended by the interrupt that the test sends
    except KeyboardInterrupt:
        (folder / f"ended-{job}").touch()
        return Result("r", "KILLED", "interrupted")
