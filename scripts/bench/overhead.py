"""What tracking costs: one tiny training (MLP 64-64-10, digits, Adam, one thread) several ways, in turn.

    python scripts/bench/overhead.py [--rounds 5] [--epochs 40] [--json overhead.json]

The variants alternate, so that a busy machine slows all of them; ratios are to the bare loop of the
same round. One round before the first is not counted: it imports, makes the SQLite store and warms
up. *loop* is from the first step to the last, measurements, journal and logger included; *whole*
adds set-up, opening the run, the final checkpoint and sending the rest to the store. Lightning with
MLFlowLogger logs the training loss alone, reglab all that it measures.
"""

import argparse
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil
import torch
from overhead_variants import BATCH, VARIANTS, Bench, Clock
from rich.console import Console
from rich.table import Table

from reglab import data
from reglab.tracking import TrackingSettings

FIGURES = ("loop", "loop_cpu", "whole")


def measure(bench: Bench, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return seconds by variant and figure, one for each round."""
    seconds: dict[str, dict[str, list[float]]] = {name: {figure: [] for figure in FIGURES} for name in VARIANTS}
    for turn in range(rounds + 1):
        for name, train in VARIANTS.items():
            clock = Clock()
            train(bench, clock)
            for figure in FIGURES if turn else ():
                seconds[name][figure].append(getattr(clock, figure))
    return seconds


def ratios(seconds: dict[str, dict[str, list[float]]], name: str, figure: str) -> list[float]:
    """Return what the variant took, in bare loops of the same round."""
    bare = next(iter(seconds.values()))[figure]
    return [own / base for own, base in zip(seconds[name][figure], bare, strict=True)]


def machine() -> dict[str, str | int | None]:
    packages = ("torch", "pytorch-lightning", "mlflow")
    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": torch.get_num_threads(),
        "load": f"{psutil.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(seconds: dict[str, dict[str, list[float]]], steps: int) -> Table:
    made = Table("variant", title=f"{steps} optimizer steps; median of rounds (smallest to largest)")
    for heading in ("loop, ms a step", "loop, bare loops", "loop CPU, bare loops", "whole, s"):
        made.add_column(heading, justify="right")
    for name, taken in seconds.items():
        cells = [_spread([1e3 * value / steps for value in taken["loop"]])]
        cells += [_spread(ratios(seconds, name, figure)) for figure in ("loop", "loop_cpu")]
        made.add_row(name, *cells, _spread(taken["whole"]))
    return made


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--log-every", type=int, default=50, help="log_every_n_steps of the logger; 50 is Lightning's")
    parser.add_argument("--json", type=Path, help="write every figure of every round there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = TrackingSettings.from_config({"experiment": "bench"}, folder)
        digits = data.load({"name": "digits"})
        bench = Bench(digits, options.epochs, folder, store, options.log_every)
        setting = {"rows": len(digits.train), "batch": BATCH, "epochs": bench.epochs, "steps": bench.steps}
        setting |= {"rounds": options.rounds, "log_every_n_steps": bench.log_every}
        known = machine()
        console.print(", ".join(f"{key} {value}" for key, value in (setting | known).items()), highlight=False)
        seconds = measure(bench, options.rounds)
    console.print(table(seconds, bench.steps))
    if options.json:
        shown = {name: {figure: ratios(seconds, name, figure) for figure in FIGURES} for name in seconds}
        content = {"setting": setting, "machine": known, "seconds": seconds, "ratios": shown}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
