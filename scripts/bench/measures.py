"""What measures cost, as ratios against a baseline of the same process, alternating, medians.

    python scripts/bench/measures.py [--rounds 9] [--threads 1]

1. Spectral norms of 12 matrices by power iteration from where the last one ended, after a small step
   of the weights, against singular values by ``torch.linalg.svdvals``; and the largest error.
2. The statistics of 25 million weights (l1, l2, max, mean, std, zeros, near zeros, distance, update)
   against reading the same bytes once: a sum.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from overhead import machine
from torch import Tensor

from reglab.measures import weight_statistics
from reglab.measures.matrices import largest_singular_value

SHAPES = [(512, 512), (512, 1024), (1024, 512), (1024, 1024), (2048, 512), (512, 2048)] * 2
STEP = 0.01  # of a weight's size, between two measurements


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def spectral(rounds: int) -> None:
    """Print the ratio and the error of spectral norms."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(1, *shape, generator=generator) / shape[1] ** 0.5 for shape in SHAPES]
    state: dict[str, Tensor] = {}

    def warm() -> list[Tensor]:
        return [largest_singular_value(weight, state, str(number)) for number, weight in enumerate(weights)]

    def exact() -> list[Tensor]:
        return [torch.linalg.svdvals(weight)[:, 0] for weight in weights]

    warm()
    ratios, errors = [], []
    for _ in range(rounds):
        for weight in weights:
            weight += STEP * weight.std() * torch.randn(weight.shape, generator=generator)
        ratios.append(seconds(exact) / seconds(warm))
        found, true = warm(), exact()
        errors.append(max(float((1 - one / two).abs().max()) for one, two in zip(found, true, strict=True)))
    print(f"spectral norms: exact / warm {median(ratios):.0f} ({min(ratios):.0f}-{max(ratios):.0f}), "
          f"largest error {max(errors):.2%}")  # fmt: skip


def statistics(rounds: int) -> None:
    """Print the ratio of weight statistics to reading the weights once."""
    weights = {str(number): torch.randn(2500, 1000) for number in range(10)}
    before = {name: weight + 0.01 for name, weight in weights.items()}
    last = {name: weight + 0.001 for name, weight in weights.items()}
    every = [*weights.values(), *before.values(), *last.values()]
    ratios = []
    for number in range(rounds + 1):
        read = seconds(lambda: [each.sum() for each in every])
        took = seconds(lambda: weight_statistics(weights, before, last))
        if number:
            ratios.append(took / read)
    print(f"weight statistics / reading their bytes once: {median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine(), f"{options.threads} threads")
    spectral(options.rounds)
    statistics(options.rounds)


if __name__ == "__main__":
    main()
