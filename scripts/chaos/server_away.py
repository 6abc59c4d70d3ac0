"""What an MLflow server that goes away again and again costs training, and whether everything arrives afterwards.

    .venv/bin/python scripts/chaos/server_away.py --seconds 600 --flaps 20

A loop of steps records five metrics a step, as training does, to an MLflow server over SQLite. The
server is killed ``flaps`` times, each time for ``seconds / flaps``; before each it is up for ``up``
seconds. Steps made while it starts are not counted in the step times. The run says how long it is
going to be, as those of ``reglab train`` do, so that it keeps to the budget of points (``--length
0``: it does not, and every row is sent; then the server's own rate, some thousand rows a second,
sets how long that takes). Printed are the medians of the step time with the server up and away,
their ratio with its interval (95%, bootstrap over the flaps), and how long after the last return
everything had arrived. The exit code is 0 if the server then holds every row once.
"""

import argparse
import json
import logging
import platform
import random
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from statistics import median

import torch
from mlflow_server import MlflowServer

from reglab.tracking import RunTracker, TrackingSettings, open_run
from reglab.tracking.folder import read_identity

KEYS = ("task", "l2", "loss", "norm", "lr")
_PATIENCE = 120.0  # seconds, for the rest to arrive


class Loop:
    """Steps of a small training, in which each step's numbers are recorded.

    ``times`` holds seconds of each.
    """

    def __init__(self, tracker: RunTracker) -> None:
        self.step = 0
        self._tracker = tracker
        self._weight = torch.zeros(256, 256)
        self._inputs = torch.randn(512, 256, generator=torch.Generator().manual_seed(0))

    def run(self, until: float) -> list[float]:
        """Make steps until the clock says ``until`` and return the seconds that each took."""
        times = []
        while (began := time.monotonic()) < until:
            self._once()
            times.append(time.monotonic() - began)
        return times

    def run_while(self, thread: threading.Thread) -> None:
        """Make steps until ``thread`` has ended."""
        while thread.is_alive():
            self._once()

    def _once(self) -> None:
        error = self._inputs @ self._weight - self._inputs
        self._weight -= 1e-4 * (self._inputs.T @ error)
        loss = float(error.square().mean())
        self._tracker.log(dict.fromkeys(KEYS, loss), self.step)
        self.step += 1


def flap(loop: Loop, server: MlflowServer, away: float, up: float) -> tuple[list[float], list[float]]:
    """Return the step times with the server up, then away; at the end it is back."""
    present = loop.run(time.monotonic() + up)
    server.kill()
    absent = loop.run(time.monotonic() + away)
    starting = threading.Thread(target=server.start)
    starting.start()
    loop.run_while(starting)
    return present, absent


def kept(tracker: RunTracker, steps: int, ended: bool) -> int:
    """Return how many of ``steps`` rows of a metric the store is to have.

    Of a run that has ended the last one, too.
    """
    rule = read_identity(tracker.folder).thinning
    return sum(rule.keeps(KEYS[0], step) or (ended and step == steps - 1) for step in range(steps))


def arrival(store: Path, tracker: RunTracker, steps: int) -> float:
    """Return after how many seconds the store has what is meant for it of the rows recorded, sent in the background."""
    wanted = len(KEYS) * kept(tracker, steps, ended=False)
    began = time.monotonic()
    pause = threading.Event()
    while sum(rows(store, tracker.run_id).values()) < wanted and time.monotonic() < began + _PATIENCE:
        pause.wait(0.05)
    return time.monotonic() - began


def rows(store: Path, run_id: str) -> dict[str, int]:
    """Return how many rows of each metric the store holds."""
    with closing(sqlite3.connect(store)) as database:
        return dict(database.execute("SELECT key, count(*) FROM metrics WHERE run_uuid = ? GROUP BY key", [run_id]))


def missing(store: Path, run_id: str, steps: int) -> str:
    """Return what the store lacks or has twice of rows at ``steps`` steps, empty if it is as it should be."""
    counted = rows(store, run_id)
    with closing(sqlite3.connect(store)) as database:
        distinct = dict(
            database.execute("SELECT key, count(DISTINCT step) FROM metrics WHERE run_uuid = ? GROUP BY key", [run_id])
        )
        ((status,),) = database.execute("SELECT status FROM runs WHERE run_uuid = ?", [run_id])
    wrong = [
        f"{key}: {counted.get(key)} rows at {distinct.get(key)} of {steps} steps"
        for key in KEYS
        if not counted.get(key) == distinct.get(key) == steps
    ]
    return "; ".join(wrong + [f"status {status}"] * (status != "FINISHED"))


def ratio(flaps: list[tuple[list[float], list[float]]]) -> tuple[float, float, float]:
    """Return the median step time away over that with the server up, with its 95% interval over the flaps."""
    each = [median(absent) / median(present) for present, absent in flaps]
    draw = random.Random(0)
    means = sorted(sum(draw.choices(each, k=len(each))) / len(each) for _ in range(2_000))
    return sum(each) / len(each), means[49], means[1949]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="how long the server is away in all")
    parser.add_argument("--flaps", type=int, default=20, help="how often it goes")
    parser.add_argument("--length", type=int, default=1_000_000, help="how many steps the run says it will have")
    parser.add_argument("--up", type=float, default=10, help="seconds that it is up before it goes")
    words = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = MlflowServer(folder, f"sqlite:///{folder / 'store.db'}")
        server.start()
        try:
            return measure(folder, server, words)
        finally:
            server.kill()


def measure(folder: Path, server: MlflowServer, words: argparse.Namespace) -> int:
    settings = TrackingSettings.from_config({"name": "mlflow", "uri": server.uri, "experiment": "away"}, folder)
    tracker = open_run(settings, name="away", folder=folder / "run", config={}, params={}, tags={},
                       steps=words.length or None)  # fmt: skip
    loop = Loop(tracker)
    flaps = [flap(loop, server, words.seconds / words.flaps, words.up) for _ in range(words.flaps)]
    arrived = arrival(folder / "store.db", tracker, loop.step)
    began = time.monotonic()
    tracker.finish()
    finish = time.monotonic() - began
    mean, low, high = ratio(flaps)
    wanted = kept(tracker, loop.step, ended=True)
    wrong = missing(folder / "store.db", tracker.run_id, wanted)
    up, away = ([time for each in flaps for time in each[side]] for side in (0, 1))
    figures = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "away": f"{words.seconds:g} s in {words.flaps} flaps",
        "steps": {"up": len(up), "away": len(away), "all": loop.step},
        "median step, ms": {"up": 1e3 * median(up), "away": 1e3 * median(away)},
        "away / up": {"mean": mean, "low": low, "high": high},
        "longest step, ms": {"up": 1e3 * max(up), "away": 1e3 * max(away)},
        "rows": len(KEYS) * wanted,
        "seconds until all had arrived": arrived,  # at least, where it gave up waiting
        "seconds to finish": finish,
        "wrong": wrong,
    }
    print(json.dumps(figures))  # in one line, which scripts/chaos/all shows
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
