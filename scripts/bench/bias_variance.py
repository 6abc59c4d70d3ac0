"""Bias and variance at 8 strengths from 20 training samples, beside one tracked run: whole commands.

    python scripts/bench/bias_variance.py [--replicas 20] [--strengths 8] [--epochs 50] [--rounds 3]

An MLP 64-64-10 on handwritten digits. Both commands start a process, train, record in MLflow and
end; the sweep also chooses, reports, and tells bias and variance. They alternate, so that a busy
machine slows both; ratios are of the same round, and one round before the first is not counted.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from overhead import machine


def seconds(words: Sequence[str], folder: Path) -> float:
    """Return how long ``reglab train`` takes, run in ``folder``."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "reglab", "train", *words], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--strengths", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    job = ["model.width=64", "model.depth=1", f"trainer.max_epochs={options.epochs}", "trainer.accelerator=cpu"]
    job += [f"data.replicas={options.replicas}", "regularizer=[l2]"]
    swept = [
        f"regularizer.l2.strength=log(1e-4,1e-1,{options.strengths})",
        f"data.replica=range({options.replicas})",
        "sweep.test=false",
    ]
    print(machine())
    found = []
    for number in range(options.rounds + 1):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as many:
            alone, sweep = seconds(job, Path(one)), seconds(["-m", *job, *swept], Path(many))
        if number:
            found.append((alone, sweep))
            print(f"round {number}: one run {alone:.1f} s, the sweep {sweep:.1f} s, ratio {sweep / alone:.2f}")
    ratios = sorted(sweep / alone for alone, sweep in found)
    count = options.replicas * options.strengths
    print(
        f"{count} trainings and their decomposition / one run: {median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
