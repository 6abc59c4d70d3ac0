"""What a fused step costs beside a solo one, and beside the matrix products that no engine can do without.

    python scripts/bench/fused.py [--rounds 9] [--threads 1] [--json fused.json]

One process, fixed threads; the variants of a round follow each other, ratios are taken within a
round. A cocktail of L1 and L2 (Adam, batch 64) trains an MLP 64-64-10 with 64 members, and a small
CNN with BatchNorm on 8 x 8 images with 8. *solo* is the step of ``reglab.training.solo`` under
Lightning with 32 steps a batch, *products* are the batched matrix products of forward and backward
alone, *convolutions* those of the CNN, lowered as in the pack. Peak memory is that of fresh
processes. Whole sweeps: fused_sweep.py.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from fused_cases import Case, cnn, convolutions, mlp, products, solo_steps
from overhead import machine
from rich.console import Console
from rich.table import Table

from reglab.training.fused.convolution import choose
from reglab.training.fused.pack import Pack
from reglab.training.trainer import quiet_lightning

STEPS = 30


def pack_steps(
    case: Case, members: int, compiled: bool, terms: list[torch.Tensor] | None = None
) -> Callable[[int], None]:
    """Return a function that takes so many fused steps. terms: gets the terms of the loss at the second step."""
    pack = Pack([case.experiment(number) for number in range(members)])
    pack.to(case.device)
    rows = next(iter(pack.loader))[0]
    inputs = pack.train_rows.batch(rows[0] if rows.dim() > 1 else rows)[0]
    pack.choose(compiled, choose(pack.base.model, members, tuple(inputs.shape), case.device, pack.dtype))
    numbers = pack.numbers(0, pack.schedules.numbers(0, 1))[0]
    rows = rows.to(case.device)

    def run(steps: int) -> None:
        for _ in range(steps):
            pack.step(rows, numbers)

    run(1)
    second = pack.step(rows, numbers)
    if terms is not None:
        terms.append(second)
    return run


def seconds(run: Callable[[int], None], steps: int) -> float:
    """Return the seconds of one step."""
    begin = time.perf_counter()
    run(steps)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / steps


def measure(variants: dict[str, Callable[[int], None]], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of a step by variant, one for each round."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            taken[name].append(1e3 * seconds(run, STEPS))
    return taken


def ratio(taken: dict[str, list[float]], first: str, second: str) -> str:
    found = [a / b for a, b in zip(taken[first], taken[second], strict=True)]
    return f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def peak_memory(members: int, threads: int) -> float:
    """Return the largest memory of a fresh process that trains the MLP with so many members (1: solo), in MB."""
    code = "import fused, sys; fused.train_and_tell(int(sys.argv[1]), int(sys.argv[2]))"
    words = [sys.executable, "-c", code, str(members), str(threads)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return float(done.stdout.split()[-1])


def train_and_tell(members: int, threads: int) -> None:
    """Take some steps and print the largest memory of this process, in MB."""
    torch.set_num_threads(threads)
    case = mlp()
    with quiet_lightning():
        run = pack_steps(case, members, compiled=False) if members > 1 else solo_steps(case)
        run(STEPS)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every figure of every round there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=110)
    known = machine()
    console.print(", ".join(f"{key} {value}" for key, value in known.items()), highlight=False)
    shown = Table("ratio of one step", "median (range)", "aim")
    content: dict[str, object] = {"machine": known}
    with quiet_lightning():
        case = mlp()
        taken = measure(
            {
                "fused": pack_steps(case, 64, compiled=True),
                "traced": pack_steps(case, 64, compiled=False),
                "products": products(case, 64),
                "quickest": products(case, 64, narrow=True),
                "solo": solo_steps(case),
            },
            options.rounds,
        )
        content["mlp"] = taken
        shown.add_row("64 members compiled / their matrix products alone", ratio(taken, "fused", "products"), "1.2")
        shown.add_row("the same / the products in the quickest layouts known", ratio(taken, "fused", "quickest"), "")
        shown.add_row("64 members compiled / one eager solo step", ratio(taken, "fused", "solo"), "3")
        shown.add_row("64 members traced, not compiled / one eager solo step", ratio(taken, "traced", "solo"), "")
        image = cnn()
        taken = measure(
            {
                "fused": pack_steps(image, 8, compiled=True),
                "traced": pack_steps(image, 8, compiled=False),
                "solo": solo_steps(image),
                "convolutions": convolutions(image, 8),
            },
            options.rounds,
        )
        content["cnn"] = taken
        shown.add_row("CNN with BatchNorm, 8 members compiled / one solo step", ratio(taken, "fused", "solo"), "3.5")
        shown.add_row("the same / its convolutions alone", ratio(taken, "fused", "convolutions"), "1.2")
        shown.add_row("traced / one solo step", ratio(taken, "traced", "solo"), "")
    memory = {members: peak_memory(members, options.threads) for members in (1, 64)}
    content["memory_mb"] = memory
    shown.add_row("peak memory, 64 members / solo", f"{memory[64] / memory[1]:.2f} ({memory[64]:.0f} MB)", "")
    console.print(shown)
    if options.json:
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
