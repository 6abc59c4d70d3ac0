"""Eight processes open and finish a run each, all at once, on a SQLite store that is not there yet.

Round after round.

    .venv/bin/python scripts/chaos/fresh_store.py --rounds 20

A run counts as whole where the store holds it FINISHED with each of its 400 rows once.
"""

import argparse
import multiprocessing
import sqlite3
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing.context import BaseContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace

from reglab.tracking import TrackingSettings, open_run

PROCESSES = 8
STEPS = 200
_DATA = SimpleNamespace(name="wine", digest="0123456789abcdef" * 4, summary={"train_rows": 100})
_gate: Barrier | None = None


def processes() -> BaseContext:
    """Return how worker processes are made: forked from one that has imported MLflow already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reglab.tracking.mlflow.runs"])
    return context


def together(context: BaseContext) -> ProcessPoolExecutor:
    """Return a pool of eight processes whose ``record`` calls start at the same moment."""
    return ProcessPoolExecutor(PROCESSES, context, _await, (context.Barrier(PROCESSES),))


def record(settings: TrackingSettings, folder: Path) -> str:
    """Open a run, record 200 steps and finish it; return its id.

    Waits for the seven others before it starts.
    """
    if _gate:
        _gate.wait(120)
    config = {"tracking": {"uri": settings.uri}}
    tracker = open_run(settings, name="one of 8", folder=folder, config=config, params={"a": 1}, tags={}, dataset=_DATA)
    for step in range(STEPS):
        tracker.log({"loss": 1 / (1 + step), "step": step}, step)
    tracker.finish()
    return tracker.run_id


def one_round(folder: Path) -> int:
    """Run a round in ``folder`` and return how many of the eight runs are whole."""
    settings = TrackingSettings.from_config({"name": "mlflow", "uri": None, "experiment": "fresh"}, folder)
    with together(processes()) as pool:
        made = [pool.submit(record, settings, folder / "runs" / str(number)) for number in range(PROCESSES)]
        failures = [error for each in made if (error := each.exception())]
    for failure in failures:
        print(f"  {type(failure).__name__}: {failure}")
    return sum(is_whole(folder / "reglab.db", each.result()) for each in made if not each.exception())


def is_whole(store: Path, run_id: str) -> bool:
    """Return whether ``store`` holds the run FINISHED with each row once, and its data set three times (its parts)."""
    query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step"
    wanted = [("loss", step, 1 / (1 + step)) for step in range(STEPS)]
    wanted += [("step", step, float(step)) for step in range(STEPS)]
    with closing(sqlite3.connect(store)) as database:
        ((status,),) = database.execute("SELECT status FROM runs WHERE run_uuid = ?", [run_id])
        ((inputs,),) = database.execute("SELECT count(*) FROM inputs WHERE destination_id = ?", [run_id])
        return bool(status == "FINISHED" and inputs == 3 and database.execute(query, [run_id]).fetchall() == wanted)


def _await(gate: Barrier) -> None:
    global _gate  # a worker's own: what a pool hands to its initializer has no other place
    _gate = gate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    whole = 0
    began = time.monotonic()
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            whole += one_round(Path(folder))
        print(f"round {number + 1}: {whole}/{PROCESSES * (number + 1)} runs whole", flush=True)
    print(f"{whole}/{PROCESSES * rounds} runs whole in {time.monotonic() - began:.0f} s")
    return int(whole != PROCESSES * rounds)


if __name__ == "__main__":
    sys.exit(main())
