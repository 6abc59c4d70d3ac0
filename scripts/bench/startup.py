"""How long ``reglab train`` takes to its first row of metrics, against importing the packages that it is built on.

    python scripts/bench/startup.py [--rounds 5] [--json startup.json] [-- key=value ...]

The job is the default one (digits, an MLP) of one epoch; what follows ``--`` is given to it. Its
store is made before the first round. Both alternate, so that a busy machine slows both; ratios are
of the same round. Wall seconds go from the start of the process to the first row in the run's
journal, CPU seconds are those of the process until then.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
from overhead import machine
from rich.console import Console
from rich.table import Table

IMPORTS = "import torch, pytorch_lightning, hydra, mlflow, torchmetrics"
_LOOK, _PATIENCE = 0.003, 300.0  # seconds


def imports() -> tuple[float, float]:
    """Return wall and CPU seconds of a process that imports the five packages."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", IMPORTS])
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"importing failed with exit code {process.returncode}")
    return wall, used.ru_utime + used.ru_stime


def first_row(folder: Path, overrides: list[str]) -> tuple[float, float]:
    """Return wall and CPU seconds from the start of ``reglab train`` to the first metrics in its journal."""
    words = [sys.executable, "-m", "reglab", "train", "trainer.max_epochs=1", "hydra.run.dir=run", *overrides]
    start = time.perf_counter()
    process = psutil.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    journal = folder / "run" / "journal.jsonl"
    while not (journal.exists() and b'"metrics":' in journal.read_bytes()):
        if process.poll() is not None or time.perf_counter() - start > _PATIENCE:
            raise SystemExit(f"no metrics: {process.stderr.read().decode()}")
        time.sleep(_LOOK)
    wall, used = time.perf_counter() - start, process.cpu_times()
    process.communicate()
    (folder / "run").rename(folder / f"run-{time.time_ns()}")
    return wall, used.user + used.system


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the seconds of every round there")
    parser.add_argument("overrides", nargs="*", help="more for reglab train, after --")
    options = parser.parse_args()
    console = Console(width=120)
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()), highlight=False)
    taken: dict[str, list[tuple[float, float]]] = {"imports": [], "first metric": []}
    with tempfile.TemporaryDirectory() as temporary:
        imports()
        first_row(Path(temporary), options.overrides)
        for _ in range(options.rounds):
            taken["imports"].append(imports())
            taken["first metric"].append(first_row(Path(temporary), options.overrides))
    shown = Table("", title=f"median of {options.rounds} rounds (smallest to largest)")
    for heading in ("wall, s", "CPU, s", "wall ratio", "CPU ratio"):
        shown.add_column(heading, justify="right")
    for name, rounds in taken.items():
        seconds = [list(column) for column in zip(*rounds, strict=True)]
        base = [list(column) for column in zip(*taken["imports"], strict=True)]
        shares = [[own / of for own, of in zip(*pair, strict=True)] for pair in zip(seconds, base, strict=True)]
        shown.add_row(name, *(spread(column) for column in (*seconds, *shares)))
    console.print(shown)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "seconds": taken}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
