"""Reading data beyond memory: its rate beside a plain torch DataLoader, and the memory that it takes.

    python scripts/bench/streaming.py [--images 20000] [--rounds 5] [--workers 2] [--gigabytes 10]

The *rate* is that of the input side of training alone, rows a second over whole epochs in a random
order: ``data=image_folder data.stream=true`` gives standardized float32 batches; the plain loader
opens, converts and resizes the same files and makes float32 tensors, as most programs do. Both
alternate, so that a busy machine slows both; ratios are of the same round. One round before the
first is not counted.

The *memory* is the peak of a process that reads every row of a generated set once through the same
path (``data=dataset``), and that of the largest of its workers, beside the size of the set.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reglab.config.trust import trust
from reglab.data import Rows, load
from reglab.training.loader import epoch_order

SIDE, BATCH = 64, 64


class Plain(Dataset[Tensor]):
    """The images, read as most programs read them."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*/*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Tensor:
        with Image.open(self.files[number]) as image:
            pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)


class Generated(Dataset[Any]):
    """Images of noise, made from their number: a set of any size without a file."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, number: int) -> Any:
        draws = np.random.Generator(np.random.SFC64(number))
        return draws.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8), number % 2


def make_images(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class{number % 4}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(path, quality=90)


def rate(batches: Iterable[Tensor]) -> float:
    """Return rows a second."""
    began, rows = time.perf_counter(), 0
    for batch in batches:
        rows += len(batch)
    return rows / (time.perf_counter() - began)


def rates(folder: Path, rounds: int, workers: int) -> list[tuple[float, float]]:
    """Return the rates of the streamed and of the plain side, of each round."""
    data = load({"name": "image_folder", "path": str(folder), "size": SIDE, "stream": True, "workers": workers})
    inputs: Any = data.train.inputs
    plain, rows = Plain(folder), data.train.index.tolist()
    found = []
    for number in range(rounds + 1):
        order = epoch_order(len(inputs), 0, number)
        ours = rate(inputs.read(torch.split(order, BATCH), torch.device("cpu")))
        sampler = [[rows[row] for row in batch.tolist()] for batch in torch.split(order, BATCH)]
        theirs = rate(DataLoader(plain, batch_sampler=sampler, num_workers=workers))
        found += [(ours, theirs)] if number else []
    return found


def read_generated(gigabytes: float, workers: int) -> None:
    """Read a generated set once, and print its rows and bytes and the peaks of memory."""
    trust("streaming")
    size = 3 * SIDE * SIDE * 4  # as float32
    before = _peak()
    node = {"name": "dataset", "_target_": "streaming.Generated", "rows": int(gigabytes * 1e9 / size)}
    data = load({**node, "stream": True, "workers": workers})
    for part in (data.train, data.val, data.test):
        inputs: Any = part.inputs
        assert rate(_batches(inputs)) > 0
    rows = sum(len(part) for part in (data.train, data.val, data.test))
    workers_peaks = [_peak(child.pid) for child in psutil.Process().children()]
    peaks = {"before": before, "process": _peak(), "worker": max(workers_peaks)}
    print(json.dumps(peaks | {"bytes": rows * size, "rows": rows}))


def _batches(inputs: Rows) -> Iterable[Tensor]:
    return inputs.read(torch.split(torch.arange(len(inputs)), BATCH), torch.device("cpu"))


def _peak(process: int | str = "self") -> float:
    """Return the peak of a process's memory in megabytes, as Linux tells it."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(float(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gigabytes", type=float, default=10.0, help="of the generated set, as float32")
    parser.add_argument("--read-generated", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.read_generated:
        read_generated(options.gigabytes, options.workers)
        return
    from overhead import machine  # late: what it imports would count in the memory

    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    if options.rounds:
        with tempfile.TemporaryDirectory() as temporary:
            make_images(Path(temporary), options.images)
            found = rates(Path(temporary), options.rounds, options.workers)
        ratios = sorted(ours / theirs for ours, theirs in found)
        print(
            f"{options.images} images of {SIDE} x {SIDE}, {options.workers} workers: streamed "
            f"{median(ours for ours, _ in found):.0f} rows a second, plain DataLoader "
            f"{median(theirs for _, theirs in found):.0f}; ratio {median(ratios):.2f} ({ratios[0]:.2f} to "
            f"{ratios[-1]:.2f}, {len(ratios)} rounds)"
        )
    if options.gigabytes:
        words = [sys.executable, __file__, "--read-generated", f"--gigabytes={options.gigabytes}"]
        done = subprocess.run([*words, f"--workers={options.workers}"], capture_output=True, text=True, check=True)
        peak = json.loads(done.stdout)
        print(
            f"{peak['rows']} generated rows, {peak['bytes'] / 1e9:.1f} GB as float32: peak {peak['process']:.0f} MB, "
            f"{peak['before']:.0f} MB of it imports; largest worker {peak['worker']:.0f} MB"
        )


if __name__ == "__main__":
    main()
