"""Stand-ins for training fused, without torch: what the members' configs ask for, they do."""

import os
import signal
import time
from dataclasses import dataclass, field

from omegaconf import OmegaConf

from launchers.standin import Progress, Result
from reglab.config.job_request import take
from reglab.core.errors import Unfused, UserError

LSTM = "the model draws random numbers of its own (LSTM dropout)"


@dataclass
class PackCost:
    step_seconds: float
    solo_step_seconds: float
    steps: int
    epochs: int
    epoch_seconds: float
    start_seconds: float
    bytes: int
    disk_bytes: int
    measures: dict[str, float] = field(default_factory=dict)


def train_pack(configs, requests, settings, on_progress, on_end):
    """Do ``act`` of the members' configs, the same for all of a pack."""
    act = configs[0].act
    _refuse(act, configs)
    if act == "wait":
        return _wait(configs, on_progress, on_end)
    for position in range(len(configs)):
        on_progress(position, Progress(1, 1, {"val/loss": 0.5}))
    if act == "silent":
        return None
    for position in reversed(range(len(configs))):  # members end in any order
        on_end(position, _result(configs[position], requests[position].number, len(configs)))
        if act == "crash":
            raise RuntimeError("a bug")
        if act == "die" and len(configs) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return None


def train_one(config):
    """Do the same for a job that trains alone."""
    if config.act == "negative" and config.optimizer.lr < 0:
        raise UserError(f"optimizer.lr must be > 0, got {config.optimizer.lr}")
    return _result(config, take(config).number, 1)


def try_pack(configs, settings):
    """Ten steps of a second for a pack of any size; 0.5 GB of memory for each member."""
    _refuse(configs[0].act, configs)
    if configs[0].act == "crash":
        raise RuntimeError("a bug")
    epochs = OmegaConf.select(configs[0], "trainer.max_epochs", default=1)
    return PackCost(1.0, 0.5, 10, epochs, 2.0, 3.0, len(configs) * 500_000_000, len(configs) * 1_000_000)


def _refuse(act, configs):
    lrs = [config.optimizer.lr for config in configs]
    zero, other = ([i for i, lr in enumerate(lrs) if (lr == 0) == wanted] for wanted in (True, False))
    if act == "negative" and min(lrs) < 0:
        raise UserError("optimizer.lr must be > 0")
    if act == "zero" and zero and other:
        raise Unfused("a learning rate of 0 is another program", [zero, other])
    if act == "lstm" and len(configs) > 1:
        raise Unfused(LSTM)


def _result(config, job, size):
    return Result(f"run-{job}", "FINISHED", "", {"lr": float(config.optimizer.lr), "size": size, "pid": os.getpid()})


def _wait(configs, on_progress, on_end):
    try:
        for position in range(len(configs)):
            on_progress(position, Progress(1, 1, {"val/loss": 0.5}))
        while True:
            time.sleep(60)  # ended by the interrupt that the test sends
    except KeyboardInterrupt:
        for position in reversed(range(len(configs))):
            on_end(position, Result("r", "KILLED", "asked to end"))
