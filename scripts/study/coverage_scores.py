"""How often the intervals of scores that are no means hold the truth, by simulation.

Docs/intervals.md has the table.

Outputs are normal around the row's class, so that the true score follows from a very large sample.
A class's share of the rows, and how far apart the classes are, span the grid; rows are 50 to 1,000.

    python scripts/study/coverage_scores.py
"""

import argparse
from collections.abc import Iterator
from itertools import product
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from reglab.measures import Evaluation, example_losses, one_part, side

ROWS = (50, 100, 300, 1000)
APART = (1.0, 2.0, 4.0)
SHARES: dict[str, tuple[float, ...]] = {
    "2 classes, half each": (0.5, 0.5),
    "2 classes, a tenth positive": (0.9, 0.1),
    "4 classes, a tenth the rarest": (0.4, 0.3, 0.2, 0.1),
}
SCORES = ("balanced_accuracy", "f1", "auroc", "average_precision", "brier")
_LARGE = 400_000


class Cell(NamedTuple):
    """held: the share of repetitions whose interval of each score held the truth, or that had none."""

    classes: str
    rows: int
    rarest: float
    held: dict[str, float]


def rows_of(shares: tuple[float, ...], apart: float, generator: Generator, *shape: int) -> tuple[Tensor, Tensor]:
    """Return outputs ``[*shape, classes]`` (one column for two classes) and class numbers ``[*shape]``."""
    chances = torch.tensor(shares, dtype=torch.float64).expand(*shape[:-1], -1)
    classes = torch.multinomial(chances, shape[-1], replacement=True, generator=generator)
    if len(shares) == 2:
        centre = apart * (classes - 0.5)
        return (centre + torch.randn(*shape, generator=generator, dtype=torch.float64)).unsqueeze(-1), classes
    noise = torch.randn(*shape, len(shares), generator=generator, dtype=torch.float64)
    return apart * torch.nn.functional.one_hot(classes, len(shares)) / 2**0.5 + noise, classes


def found(outputs: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """Return the scores of one repetition with their intervals."""
    task = "binary" if outputs.shape[-1] == 1 else "classification"
    targets = classes.double() if task == "binary" else classes
    seen = Evaluation(example_losses(outputs, targets, task), outputs, targets)
    return one_part("val", side(seen, task), task, scores=SCORES)


def coverage(classes: str, apart: float, rows: int, repetitions: int, seed: int = 0) -> Cell:
    """Return one cell of the grid."""
    shares, generator = SHARES[classes], torch.Generator().manual_seed(seed)
    truth = found(*rows_of(shares, apart, generator, _LARGE))
    held = dict.fromkeys(SCORES, 0)
    outputs, targets = rows_of(shares, apart, generator, repetitions, rows)
    for each in zip(outputs, targets, strict=True):
        seen = found(*each)
        for name in SCORES:
            low, high, value = (seen[f"val/{name}_low"], seen[f"val/{name}_high"], truth[f"val/{name}"])
            held[name] += not bool((low > value) | (high < value))
    return Cell(classes, rows, rows * min(shares), {name: count / repetitions for name, count in held.items()})


def grid(repetitions: int) -> Iterator[Cell]:
    """Yield every cell of the grid."""
    for classes, apart, rows in product(SHARES, APART, ROWS):
        yield coverage(classes, apart, rows, repetitions)


def table(cells: list[Cell]) -> str:
    """Return the mean and the least coverage of each score, in markdown."""
    lines = [f"| classes | rows of the rarest | {' | '.join(SCORES)} |", "|---" * (len(SCORES) + 2) + "|"]
    for classes, few in product(SHARES, (False, True)):
        chosen = [cell for cell in cells if cell.classes == classes and (cell.rarest < 20) is few]
        if chosen:
            held = [[cell.held[name] for cell in chosen] for name in SCORES]
            words = " | ".join(f"{fmean(values):.3f}, {min(values):.3f}" for values in held)
            lines.append(f"| {classes} | {'5 to 19' if few else 'from 20 on'} | {words} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=500)
    given = parser.parse_args()
    cells = []
    for cell in grid(given.repetitions):
        cells.append(cell)
        print(cell.classes, cell.rows, *(f"{value:.3f}" for value in cell.held.values()), flush=True)
    print(table(cells))


if __name__ == "__main__":
    main()
