"""What measures and proximal steps cost, on a GPU or on the CPU, and how much two processes gain.

    python scripts/bench/devices.py [measures] [l1] [ddp] [--rounds 5] [--threads 1]

measures: what is measured at the end of an epoch, with the default settings, as a share of it. l1:
an optimizer with L1's proximal steps / the fused optimizer alone, on the weights of ResNet-50. ddp:
rows a second of two processes / of one, a thread each, joint batches of equal size, on the CPU.
What else a GPU is asked: gpu_check.

Each figure is the median over rounds, with the smallest and the largest; one round before the first
is not counted.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from devices_cases import DEVICE, bare, cases, finished, resnet50, seconds_a_step, store, tracked
from overhead import machine
from torch import nn

from reglab.regularizers import L1
from reglab.training.measurement import Measurement
from reglab.training.recorder import Recorder
from reglab.training.step_size import StepSizes

EPOCHS_OF = (1_000, 5_004)  # steps; the second is ImageNet's at batch 256


def show(name: str, values: Sequence[float], said: str) -> None:
    print(f"{name}: {median(values):.3f} ({min(values):.3f} to {max(values):.3f}); {said}", flush=True)


def ratios(ours: Sequence[float], base: Sequence[float]) -> list[float]:
    return [own / other for own, other in zip(ours, base, strict=True)]


class Stopwatch:
    """Keeps the seconds of each call of a method, by its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def on(self, kind: type, name: str) -> Any:
        """Return the patch that times ``kind.name``."""
        method: Callable[..., Any] = getattr(kind, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = finished()
            answer = method(*arguments, **options)
            self.seconds.setdefault(name, []).append(finished() - start)
            return answer

        return patch.object(kind, name, timed)


def bench_measures(folder: Path, rounds: int) -> None:
    case, watch = cases()["resnet"], Stopwatch()
    base = [seconds_a_step(case, bare(case)) for _ in range(3)][1:]
    epochs = rounds + 1
    with watch.on(Recorder, "on_train_epoch_end"), watch.on(Measurement, "gap"), watch.on(Measurement, "weights"):
        tracked(case, folder, store(folder), epochs)()
    whole, gap, weights = (watch.seconds[name][-rounds:] for name in ("on_train_epoch_end", "gap", "weights"))
    rest = [all_ - one - other for all_, one, other in zip(whole, gap, weights, strict=True)]
    step, probe = median(base), min(len(case.data(epochs).train), 1000)
    print(f"measures, {case.name}: one bare step {1e3 * step:.1f} ms of {case.batch} rows", flush=True)
    parts = {"statistics of the weights": weights, f"gap on {probe} + {case.val} rows": gap, "the rest": rest}
    for name, seconds in parts.items():
        show(f"measures, {name}, in bare steps", [each / step for each in seconds], f"{1e3 * median(seconds):.1f} ms")
    for steps in EPOCHS_OF:
        shares = [100 * each / (steps * step) for each in whole]
        show(f"measures, all, % of an epoch of {steps:,} steps", shares, f"{1e3 * median(whole):.1f} ms an epoch")


def bench_l1(folder: Path, rounds: int) -> None:
    # As a real step's activations do: without it, malloc returns each temporary.
    torch.empty(8_000_000).fill_(0.0)
    kinds = {"SGD, momentum": (torch.optim.SGD, {"momentum": 0.9}), "Adam": (torch.optim.Adam, {})}
    for name, (kind, options) in kinds.items():
        model = resnet50().to(DEVICE)
        for weight in model.parameters():
            weight.grad = 1e-3 * torch.randn_like(weight)
        optimizer = kind(model.parameters(), lr=1e-6, fused=True, **options)
        proximal, sizes = L1(1e-4).to(DEVICE), StepSizes(model, optimizer)
        alone, both = [], []
        for _ in range(10 * rounds + 1):
            alone.append(_taken(optimizer.step))
            both.append(_taken(lambda: _with_l1(optimizer, proximal, model, sizes)))  # noqa: B023 - called at once
        said = f"{1e3 * median(both[1:]):.2f} ms / {1e3 * median(alone[1:]):.2f} ms, ResNet-50's weights"
        show(f"l1, {name}, with L1 / fused alone", ratios(both[1:], alone[1:]), said)


@torch.no_grad()
def _with_l1(optimizer: torch.optim.Optimizer, proximal: L1, model: nn.Module, sizes: StepSizes) -> None:
    optimizer.step()
    proximal.on_step(model, sizes)


def _taken(do: Callable[[], object]) -> float:
    start = finished()
    do()
    return finished() - start


def bench_ddp(folder: Path, rounds: int) -> None:
    for name, options in (("without BatchNorm", ["--no-norm"]), ("with synchronised BatchNorm", [])):
        two, one = [], []
        for _ in range(rounds):
            one.append(_rows_a_second(1, folder, options))
            two.append(_rows_a_second(2, folder, options))
        said = f"{median(two):,.0f} rows/s / {median(one):,.0f} rows/s; small CNN on 32 x 32, joint batch 64, CPU"
        show(f"ddp, two processes / one, {name}", ratios(two, one), said)


def _rows_a_second(ranks: int, folder: Path, options: Sequence[str]) -> float:
    script = Path(__file__).with_name("devices_cases.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    ended = subprocess.run(
        [*launch, str(script), "--steps=20", *options], capture_output=True, text=True, cwd=folder, check=False
    )
    found = re.search(r"rows a second: ([\d.]+)", ended.stdout)
    if not found:
        raise SystemExit(f"{ranks} ranks did not train:\n{ended.stderr[-3000:]}")
    return float(found[1])


BENCHES = {"measures": bench_measures, "l1": bench_l1, "ddp": bench_ddp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", choices=list(BENCHES), default=list(BENCHES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    gpu = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda} if DEVICE.type == "cuda" else {"gpu": None}
    print(", ".join(f"{key} {value}" for key, value in (machine() | gpu).items()), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.which:
            BENCHES[name](Path(temporary), options.rounds)


if __name__ == "__main__":
    main()
