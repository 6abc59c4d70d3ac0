"""What the journal and its writer cost, each figure beside a baseline of the same process, in turn.

    python scripts/bench/tracking.py [step] [parts] [rows] [tail] [size] [--rounds 3] [--scale 1.0]

*step*: a training step that logs five scalars to a SQLite store / the same step without (tiny MLP
64-64-10, batch 64, Adam, one thread). *parts*: what its logging is made of. *rows*: rows a second
from journals into a SQLite store / those of MLflow's own ``log_batch`` with 1,000 rows a call, on
the same rows; and of ``mlflow.sql.write`` alone. *tail*: seconds from the last of a million points
until MLflow shows the run FINISHED. *size*: megabytes of a sweep of 64 runs in the store.

wall: seconds; cpu: seconds of all threads of the process, which a busy machine changes less.
Medians of the rounds.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mlflow import MlflowClient
from mlflow.entities import Metric
from overhead import machine
from torch import nn

from reglab.tracking import RunSpec, RunTracker, TrackingSettings, finish_runs, log_pack, open_runs, open_sweep
from reglab.tracking.folder import read_identity
from reglab.tracking.journal_lines import Row, Series, layout
from reglab.tracking.mlflow.sql import RunWrite, connection, write
from reglab.tracking.mlflow.store import prepare
from reglab.tracking.payload import read_payload

RUNS, KEYS, POINTS = 64, 20, 500
SCALARS = ("train/loss", "train/accuracy", "gradient/norm", "objective/l1", "optimizer/lr")
BASELINE_ROWS = 20_000  # of MLflow's own loop, whose rate does not depend on their number
LAYERS = ("all", "hidden.0.linear.weight", "hidden.1.linear.weight", "head.weight")
STATISTICS = ("l1", "l2", "max", "mean", "std", "zeros", "near_zeros", "distance", "update")
EPOCHS = 107
BLOCK = 250  # steps with and without tracking, in turn


@dataclass
class Clock:
    """Seconds between entering and leaving."""

    wall: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> "Clock":
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()


class Stores:
    """Fresh SQLite stores, copied from one whose migrations are done."""

    def __init__(self, folder: Path) -> None:
        self._template, self._folder, self._count = folder / "template.db", folder, 0
        prepare(self._template)

    @contextmanager
    def fresh(self, points: int | None = 500) -> Iterator[TrackingSettings]:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        shutil.copy(self._template, folder / "reglab.db")
        yield TrackingSettings.from_config({"experiment": "bench", "points": points}, folder)
        shutil.rmtree(folder)


def folder_of(settings: TrackingSettings) -> Path:
    return Path(settings.uri.removeprefix("sqlite:///")).parent


def open_many(settings: TrackingSettings, count: int, steps: int, parent: str | None = None) -> list[RunTracker]:
    folder = folder_of(settings)
    specs = [RunSpec(str(n), folder / str(n), {}, {"n": n}, {}, parent=parent, steps=steps) for n in range(count)]
    return open_runs(settings, specs)


def trainer() -> Callable[[], torch.Tensor]:
    """Return a function that does one step of the tiny MLP's training and returns the loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters())
    inputs, targets = torch.randn(64, 64), torch.randint(10, (64,))

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def train(tracker: RunTracker | None, one: Callable[[], torch.Tensor], first: int, last: int) -> Clock:
    """Train from step ``first`` to ``last``; cpu is the training thread's alone."""
    clock = Clock(-time.perf_counter(), -time.thread_time())
    for number in range(first, last):
        loss = one()
        if tracker:
            tracker.log(dict(zip(SCALARS, (loss, 0.5, number / 7, 1e-3 * number, 1e-3), strict=True)), number)
    clock.wall += time.perf_counter()
    clock.cpu += time.thread_time()
    return clock


def show(name: str, ours: Sequence[float], baseline: Sequence[float], better: str) -> None:
    ratios = [own / base for own, base in zip(ours, baseline, strict=True)]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"{name}: {median(ratios):.3f} ({spread}); {better}", flush=True)


def bench_step(stores: Stores, rounds: int, scale: float) -> None:
    steps, one = int(80_000 * scale), trainer()
    with stores.fresh() as settings:  # imports of the first transaction
        finish_runs(open_many(settings, 1, 1), ["FINISHED"])
    for points in (500, None):
        walls, cpus, costs = [], [], []
        for _ in range(rounds):
            with stores.fresh(points) as settings:
                (tracker,) = open_many(settings, 1, steps)
                bare, tracked = [], []
                with Clock() as whole:
                    for first in range(0, steps, BLOCK):
                        bare.append(train(None, one, first, first + BLOCK))
                        tracked.append(train(tracker, one, first, first + BLOCK))
                tracker.finish()
            without, logged = (sum(each.cpu for each in some) for some in (bare, tracked))
            writer = whole.cpu - without - logged
            walls.append(median(each.wall for each in tracked) / median(each.wall for each in bare))
            cpus.append((logged + writer) / without)
            costs.append([1e6 * each / steps for each in (without, logged - without, writer)])
        step, log, writer = (median(column) for column in zip(*costs, strict=True))
        said = (
            f"{step:.0f} us a bare step, {log:.1f} us logging {len(SCALARS)} rows, {writer:.1f} us the writer's thread"
        )
        ones = [1.0] * rounds
        show(f"step, points={points}, wall, tracked / untracked", walls, ones, f"medians of blocks of {BLOCK} steps")
        show(f"step, points={points}, cpu, tracked with the writer's thread / untracked", cpus, ones, said)


def bench_parts(stores: Stores, rounds: int, scale: float) -> None:
    """Print what a call of ``log`` is made of, each part timed between steps of training, when caches are cold."""
    one, known = trainer(), layout(SCALARS)
    with stores.fresh() as settings:
        (tracker,) = open_many(settings, 1, 1)
        line = known.line % (time.time_ns() // 1_000_000, 1, *[0.123456789] * len(SCALARS))
        with (folder_of(settings) / "written").open("ab", buffering=0) as file:
            parts: dict[str, Callable[[dict[str, Any], int], object]] = {
                "nothing": lambda metrics, number: None,
                "five floats": lambda metrics, number: list(map(float, metrics.values())),
                "formatting them": lambda metrics, number: known.line % (1, number, 0.5, *[number / 7] * 4),
                "os.write": lambda metrics, number: os.write(file.fileno(), line),
                "log": tracker.log,
            }
            taken: dict[str, list[int]] = {name: [] for name in parts}
            for number in range(1, int(10_000 * scale)):
                for name, part in parts.items():
                    metrics = dict(zip(SCALARS, (one(), 0.5, number / 7, 1e-3 * number, 1e-3), strict=True))
                    start = time.perf_counter_ns()
                    part(metrics, number)
                    taken[name].append(time.perf_counter_ns() - start)
        tracker.finish()
    said = ", ".join(f"{name} {median(some) / 1e3:.1f}" for name, some in taken.items())
    print(f"parts, us a call between two steps of training: {said}", flush=True)


def bench_rows(stores: Stores, rounds: int, scale: float) -> None:
    points = max(2, int(POINTS * scale))
    keys = [f"weights/layer.{number}/l2" for number in range(KEYS)]
    whole, alone, theirs = [], [], []
    for _ in range(rounds):
        with stores.fresh(None) as settings:
            runs = open_many(settings, RUNS, points)
            runs[0]._sender._stopped.set()  # all of it in the measured call
            for step in range(points):
                log_pack(runs, keys, [[run + step / 7 + key / 3 for key in range(KEYS)] for run in range(RUNS)], step)
            with Clock() as clock:
                assert runs[0]._sender.flush([run._cursor for run in runs])
            whole.append(_rates(clock, RUNS * KEYS * points))
            client = MlflowClient(settings.uri)
            assert len(client.get_metric_history(runs[-1].run_id, keys[-1])) == points
            rows = {run.run_id: list(run.journal.rows()) for run in runs}
            series = [
                read_payload(read_identity(run.folder), run.folder, 0, RUNS * KEYS * points).series for run in runs
            ]
            finish_runs(runs, ["FINISHED"] * RUNS)
        alone.append(_write(stores, series))
        theirs.append(_log_batches(stores, rows))
    for clock in ("wall", "cpu"):
        ours, sql, base = ([getattr(each, clock) for each in some] for some in (whole, alone, theirs))
        said = f"{median(ours):,.0f} rows/s / {median(base):,.0f} rows/s of log_batch(1000)"
        show(f"rows, journal to store, {clock}", ours, base, said)
        show(f"rows, mlflow_sql.write alone, {clock}", sql, base, f"{median(sql):,.0f} rows/s")


def _write(stores: Stores, series: Sequence[Mapping[str, Series]]) -> Clock:
    with stores.fresh(None) as settings:
        runs = open_many(settings, len(series), 0)
        parts = [RunWrite(run.run_id, some) for run, some in zip(runs, series, strict=True)]
        with Clock() as clock:
            write(folder_of(settings) / "reglab.db", parts)
        finish_runs(runs, ["FINISHED"] * len(runs))
    return _rates(clock, sum(len(each.steps) for some in series for each in some.values()))


def _log_batches(stores: Stores, rows: dict[str, list[Row]]) -> Clock:
    with stores.fresh(None) as settings:
        runs = open_many(settings, len(rows), 0)
        client, share = MlflowClient(settings.uri), BASELINE_ROWS // len(rows)
        sent = 0
        with Clock() as clock:
            for run, some in zip(runs, rows.values(), strict=True):
                for start in range(0, min(share, len(some)), 1_000):
                    part = some[start : start + 1_000]
                    client.log_batch(run.run_id, [Metric(row.key, row.value, row.timestamp, row.step) for row in part])
                    sent += len(part)
                if sent >= BASELINE_ROWS:
                    break
        finish_runs(runs, ["FINISHED"] * len(runs))
    return _rates(clock, sent)


def _rates(clock: Clock, rows: int) -> Clock:
    return Clock(rows / clock.wall, rows / clock.cpu)


def bench_tail(stores: Stores, rounds: int, scale: float) -> None:
    steps = int(200_000 * scale)
    for points in (500, None):
        for pace in ("logging alone", "training"):
            logged, tails = [], []
            for _ in range(rounds):
                with stores.fresh(points) as settings:
                    (tracker,) = open_many(settings, 1, steps)
                    clock = train(tracker, trainer(), 0, steps) if pace == "training" else _log(tracker, steps)
                    with Clock() as tail:
                        tracker.finish()
                        assert MlflowClient(settings.uri).get_run(tracker.run_id).info.status == "FINISHED"
                    logged.append(clock.wall)
                    tails.append(tail)
            wall, cpu = (median(getattr(tail, name) for tail in tails) for name in ("wall", "cpu"))
            print(
                f"tail, points={points}, {steps * len(SCALARS):,} rows by {pace} in {median(logged):.1f} s: "
                f"{wall:.2f} s until FINISHED (cpu {cpu:.2f})",
                flush=True,
            )


def _log(tracker: RunTracker, steps: int) -> Clock:
    with Clock() as clock:
        for step in range(steps):
            tracker.log(dict(zip(SCALARS, (step / 3, step / 7, step / 9, step / 11, step / 13), strict=True)), step)
    return clock


def bench_size(stores: Stores, rounds: int, scale: float) -> None:
    keys = [f"{side}/{name}" for side in ("train", "val", "gap") for name in ("loss", "accuracy")]
    keys += [f"{key}_{end}" for key in ("gap/loss", "gap/accuracy") for end in ("low", "high")]
    keys += ["val/loss_se", "val/accuracy_se", "objective/task", "objective/l2", "naive_gap/loss", "optimizer/lr"]
    keys += [f"weights/{layer}/{name}" for layer in LAYERS for name in STATISTICS]
    keys += ["system/seconds", "system/memory_mb"]
    for epochs in (EPOCHS, 99, 1_000):
        for points in (500, None) if epochs == EPOCHS else (500,):
            with stores.fresh() as opened:
                settings = replace(opened, points=points)
                folder = folder_of(settings)
                sweep = open_sweep(settings, name="sweep", folder=folder / "sweep", params={}, tags={})
                runs = open_many(settings, RUNS, epochs, sweep.run_id)
                for epoch in range(epochs + 1):
                    log_pack(
                        runs,
                        keys,
                        [[run + epoch / 7 + key / 3 for key in range(len(keys))] for run in range(RUNS)],
                        epoch,
                    )
                    if epoch % 10 == 9:  # as the writer does when an epoch takes half a second
                        runs[0]._sender.flush([run._cursor for run in runs])
                for run in runs:
                    run.summary(dict.fromkeys(keys[:12] + [f"weights/{name}" for name in STATISTICS], 1.0))
                finish_runs([*runs, sweep], ["FINISHED"] * (RUNS + 1))
                tag = MlflowClient(settings.uri).get_run(runs[0].run_id).data.tags.get("reglab.points", "all")
                with connection(folder / "reglab.db") as store:
                    # As when the last process leaves.
                    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                size = (folder / "reglab.db").stat().st_size / 1e6
                own = sum(path.stat().st_size for path in runs[0].folder.glob("metrics.parquet")) / 1e6
            said = f"{size:.1f} MB; points: {tag}; metrics.parquet {own:.2f} MB a run"
            print(f"size, {RUNS} runs x {epochs} epochs x {len(keys)} series, points={points}: {said}", flush=True)


BENCHES = {"step": bench_step, "parts": bench_parts, "rows": bench_rows, "tail": bench_tail, "size": bench_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", choices=list(BENCHES), default=list(BENCHES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="less than 1: a quicker, rougher look")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        stores = Stores(Path(temporary))
        for name in options.which:
            BENCHES[name](stores, options.rounds, options.scale)


if __name__ == "__main__":
    main()
