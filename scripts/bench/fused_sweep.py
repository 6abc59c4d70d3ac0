"""A sweep of 64 strengths, whole processes.

``reglab train -m`` against stock Lightning with MLFlowLogger.

    python scripts/bench/fused_sweep.py [--rounds 7] [--epochs 107] [--threads 1] [--workers 1]
        [--json sweep.json]

The data are a generated table of 6,000 training rows and 64 features, 10 classes; the model an MLP
64-64-10 under L1 and L2, batch 64: 94 steps an epoch, 10,058 steps in 107 epochs. From start to
exit, interpreter and imports included:

- *sweep*: 64 strengths of L1, each its own FINISHED MLflow run with gap, interval and weight
  statistics each epoch
- *stock*: one job of plain Lightning: the same net, penalties in the loss, validation each epoch,
  MLFlowLogger
- *stock job*: the same without interpreter and imports; 64 of them one after the other are reckoned
  from it

The sweep's own time is told in parts, from its journals: *start* is to the first row of metrics
(imports, composing, opening the runs, tracing, choosing, compiling), *training* from there to the
last row (steps, measurements, journals), *end* to the exit (what is left to send, checkpoints,
artifacts). What of training the steps take: fused.py.

Rounds alternate; ratios are taken within a round. Both write to a fresh SQLite store that MLflow
has migrated before.
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

from overhead import machine
from rich.console import Console
from sklearn.datasets import make_classification

ROWS, FEATURES, CLASSES, MEMBERS, BATCH = 10_000, 64, 10, 64, 64


def make_table(path: Path) -> None:
    """Write the data as a CSV file."""
    inputs, targets = make_classification(
        ROWS, FEATURES, n_informative=20, n_redundant=20, n_classes=CLASSES, flip_y=0.1, random_state=0
    )
    lines = [",".join([*(f"x{i}" for i in range(FEATURES)), "y"])]
    lines += [",".join([*(f"{v:.6g}" for v in row), f"c{label}"]) for row, label in zip(inputs, targets, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sweep_command(table: Path, epochs: int, threads: int, workers: int) -> list[str]:
    return [
        sys.executable, "-m", "reglab", "train", "-m", "data=table", f"data.path={table}", "data.target=y",
        f"data.batch_size={BATCH}", "model=mlp", "model.width=64", "model.depth=1", "regularizer=[l1,l2]",
        f"regularizer.l1.strength=log(1e-6,1e-2,{MEMBERS})", "regularizer.l2.strength=1e-4", "trainer=cpu",
        f"trainer.max_epochs={epochs}", "sweep.report=false", "hydra/launcher=fused",
        f"hydra.launcher.threads={threads}", f"hydra.launcher.workers={workers}",
    ]  # fmt: skip


def stock_command(table: Path, epochs: int) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("fused_stock.py")), str(table), str(epochs)]


def timed(words: list[str], folder: Path, threads: int) -> tuple[float, str]:
    """Return the seconds that a command takes, and what it printed.

    Its output is shown where it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MLFLOW_DISABLE_TELEMETRY": "true"}
    begin = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.perf_counter() - begin, done.stdout


def finished_runs(folder: Path) -> tuple[int, int]:
    """Return how many finished jobs and how many metric rows the store holds."""
    import sqlite3

    with sqlite3.connect(folder / "reglab.db") as store:
        runs = store.execute(
            "SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE status='FINISHED' AND key='reglab.kind' "
            "AND value='job'"
        ).fetchone()
        return runs[0], store.execute("SELECT count(*) FROM metrics").fetchone()[0]


def parts(folder: Path, begin: float, seconds: float) -> dict[str, float]:
    """Return the seconds of start, training and end of a sweep that began at ``begin`` (since 1970)."""
    times = [
        json.loads(line)["time"] / 1e3
        for journal in folder.glob("runs/**/journal.jsonl")
        for line in journal.read_text(encoding="utf-8").splitlines()
        if '"objective/' in line or '"gap/loss"' in line
    ]
    first, last = min(times), max(times)
    return {"start": first - begin, "training": last - first, "end": begin + seconds - last}


def ratio(found: list[float]) -> str:
    return f"{median(found):.3f} ({min(found):.3f} to {max(found):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=107)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--workers", type=int, default=2, help="processes of the sweep")
    parser.add_argument("--json", type=Path, help="write every figure of every round there")
    options = parser.parse_args()
    console = Console(width=110)
    known = machine() | {"workers": options.workers, "worker threads": options.threads}
    console.print(", ".join(f"{key} {value}" for key, value in known.items()), highlight=False)
    taken: dict[str, list[float]] = {}
    for number in range(options.rounds + 1):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            table = folder / "table.csv"
            make_table(table)
            from reglab.tracking.mlflow.store import prepare

            prepare(folder / "reglab.db")
            words = sweep_command(table, options.epochs, options.threads, options.workers)
            since = time.time()
            sweep, _ = timed(words, folder, options.threads)
            told = parts(folder, since, sweep)
            runs, rows = finished_runs(folder)
            size = (folder / "reglab.db").stat().st_size / 1e6
            # The stock run may use all the cores that the sweep had.
            stock, said = timed(stock_command(table, options.epochs), folder, options.threads * options.workers)
            job = float(said.split()[-1])
        console.print(
            f"round {number}{'' if number else ' (not counted)'}: sweep {sweep:.1f} s ({runs} runs, {rows} rows, "
            f"{size:.0f} MB; {', '.join(f'{name} {value:.1f}' for name, value in told.items())}), stock {stock:.1f} s, "
            f"of which the job {job:.1f} s",
            highlight=False,
        )
        if runs != MEMBERS:
            raise SystemExit(f"{runs} of {MEMBERS} runs finished")
        if number:
            for name, value in ({"sweep": sweep, "stock": stock, "stock job": job} | told).items():
                taken.setdefault(name, []).append(value)
    pairs = list(zip(taken["sweep"], taken["stock"], taken["stock job"], strict=True))
    console.print(f"sweep / one stock run: {ratio([a / b for a, b, _ in pairs])}  (aim 1)", highlight=False)
    all_jobs = [a / (b + (MEMBERS - 1) * c) for a, b, c in pairs]
    console.print(
        f"sweep / 64 stock jobs one after the other: 1/{1 / median(all_jobs):.0f}  (aim 1/40)", highlight=False
    )
    if options.json:
        options.json.write_text(json.dumps({"machine": known, "seconds": taken}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
