"""A notebook's kernel, as far as starting processes goes.

It executes a cell in a ``__main__`` that lies in no file.
"""

import json
import multiprocessing
import sys
import types
from pathlib import Path
from typing import Any

CELL = """
import os, signal
import torch
from torch import nn
import reglab

SETTINGS = dict(epochs=3, lr=1e-2, measure=reglab.MeasureSettings())

class Net(nn.Module):
    def __init__(self, act=None):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.act = nn.Linear(13, 6), nn.Linear(6, 3), act

    def forward(self, inputs):
        if self.training and self.act:
            self.act(os.environ.get("RANK"))
        return self.last(self.first(inputs).relu())

class Own(Exception):
    def __init__(self, number, reason):
        super().__init__(f"{number} because of {reason}")
        self.reason = reason

def fit(strategy, model=None, devices=2, **more):
    trainer = {"accelerator": "cpu"} | ({"devices": devices, "strategy": strategy} if strategy else {})
    given = {**SETTINGS, "trainer": trainer, **more}
    return reglab.fit(model or Net(), reglab.dataset("wine"), [reglab.L1(1e-3), reglab.Dropout(0.2)], **given)

def ended(strategy, act, **more):
    try:
        fit(strategy, Net(act), **more)
    except BaseException as error:
        return [type(error).__name__, str(error), getattr(error, "reason", "")]

def fails(rank):
    if rank == "1":
        raise Own(3, "rank 1")

def dies(rank):
    if rank == "1":
        os._exit(7)

def interrupts(rank, pressed=[]):
    pressed.append(True)
    if rank == "1" and len(pressed) == 3:  # the model is tried before its run is opened
        os.kill(os.getppid(), signal.SIGINT)
"""


def run(cell: str) -> None:
    """Run a cell, and write what it leaves in ``told`` to ``told.json``."""
    main = types.ModuleType("__main__")
    sys.modules["__main__"], sys.ps1 = main, "In : "
    space: dict[str, Any] = main.__dict__
    space["told"] = {}
    exec(compile(CELL + cell, "<cell>", "exec"), space)
    space["told"]["left"] = [process.pid for process in multiprocessing.active_children()]
    Path("told.json").write_text(json.dumps(space["told"]))


if __name__ == "__main__":
    run(sys.argv[1])
