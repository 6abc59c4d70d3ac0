"""How often the intervals of ``reglab.measures.gap`` hold the true gap, by simulation.

Docs/intervals.md has the table.

Each repetition draws a training part, which then counts as fixed, and validation rows from a
population whose means are known exactly. The gap that an interval is to hold is the population's
mean minus that of the whole training part.

    python scripts/study/coverage.py                     # the whole grid: two minutes on one core
    python scripts/study/coverage.py --repetitions 400   # a quick look
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist, fmean
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from reglab.measures import Side, gap
from reglab.measures.per_example import Scale

ROWS = (30, 50, 100, 300, 1000, 2000)
ACCURACIES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
R2 = (-0.5, 0.5, 0.9, 0.99)
_LABELS = 5


class Drawn(NamedTuple):
    """Drawn rows.

    statistics: as ``example_statistics`` gives them, ``[statistics, repetitions, rows]``. targets: of a regression,
    else empty.
    """

    statistics: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Population:
    """Rows to draw from, with the means of their loss and score."""

    task: str
    draw: Callable[[Generator, int, int], Drawn]
    loss: float
    score: float


class Cell(NamedTuple):
    """One cell of the grid. loss, score: the share of repetitions whose interval held the truth.

    Without: the share that had no interval of the loss (it counts as one that holds). width: the
    median width of the score's interval. empty: the least width that a score's interval had.
    """

    generator: str
    training: str
    rows: int
    level: float
    loss: float
    score: float
    without: float
    width: float
    empty: float


def normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def exponential(generator: Generator, *shape: int) -> Tensor:
    return torch.empty(*shape, dtype=torch.float64).exponential_(generator=generator)


def margins(accuracy: float, spread: float) -> Population:
    """Binary logits ``margin ~ normal(m, spread)`` with ``P(margin > 0) = accuracy``.

    Loss ``softplus(-margin)``.

    The larger the spread, the more certain the model is where it is wrong.
    """
    middle = NormalDist().inv_cdf(accuracy) * spread

    def draw(generator: Generator, repetitions: int, rows: int) -> Drawn:
        margin = middle + spread * normal(generator, repetitions, rows)
        return Drawn(torch.stack([softplus(-margin), (margin > 0).double()]), torch.empty(0))

    grid = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = (-grid.square() / 2).exp()
    mean = (density * softplus(-(middle + spread * grid))).sum() / density.sum()
    return Population("binary", draw, float(mean), accuracy)


def mixture(accuracy: float) -> Population:
    """Losses around 0.05 where the model is right, and 0.7 + exponential(2) where it is wrong."""

    def draw(generator: Generator, repetitions: int, rows: int) -> Drawn:
        right = torch.rand(repetitions, rows, generator=generator, dtype=torch.float64) < accuracy
        size = exponential(generator, repetitions, rows)
        return Drawn(torch.stack([torch.where(right, 0.05 * size, 0.7 + 2 * size), right.double()]), torch.empty(0))

    return Population("classification", draw, 0.05 * accuracy + 2.7 * (1 - accuracy), accuracy)


def labels(accuracy: float, together: float) -> Population:
    """Five labels a row; a share ``together`` of the rows has all right or all wrong.

    A wrong one costs 2, else 0.1.
    """

    def draw(generator: Generator, repetitions: int, rows: int) -> Drawn:
        chance = torch.rand(repetitions, rows, _LABELS, generator=generator, dtype=torch.float64)
        joint = torch.rand(repetitions, rows, 1, generator=generator, dtype=torch.float64) < together
        right = (torch.where(joint, chance[..., :1], chance) < accuracy).double().mean(-1)
        return Drawn(torch.stack([2 - 1.9 * right, right]), torch.empty(0))

    return Population("multilabel", draw, 2 - 1.9 * accuracy, accuracy)


def regression(r2: float, noise: str) -> Population:
    """Targets of variance 1 = prediction + residual.

    Normal, Student's t of 5 degrees of freedom, skewed, or skewed predictions. Below an R² of 0
    predictions are normal and have nothing to do with the target.
    """

    def residuals(generator: Generator, *shape: int) -> Tensor:
        if noise == "t5":
            chi = sum(normal(generator, *shape).square() for _ in range(5))
            return normal(generator, *shape) * (3 / chi).sqrt()
        return exponential(generator, *shape) - 1 if noise == "skewed" else normal(generator, *shape)

    def draw(generator: Generator, repetitions: int, rows: int) -> Drawn:
        shape = (repetitions, rows)
        if r2 < 0:
            targets = residuals(generator, *shape)
            missed = targets - math.sqrt(-r2) * normal(generator, *shape)
        else:
            skewed = noise == "skewed targets"
            predicted = exponential(generator, *shape) - 1 if skewed else normal(generator, *shape)
            missed = math.sqrt(1 - r2) * residuals(generator, *shape)
            targets = math.sqrt(r2) * predicted + missed
        return Drawn(missed.square().unsqueeze(0), targets)

    return Population("regression", draw, 1 - r2, r2)


def side(drawn: Drawn, task: str, left: float) -> Side:
    """Return the drawn rows as a side of a gap, every repetition a member."""
    if task != "regression":
        return Side(drawn.statistics, Scale(*[torch.empty(0)] * 3), left)
    spread, mean = torch.std_mean(drawn.targets, dim=-1, correction=0, keepdim=True)
    squares = ((drawn.targets - mean) / spread).square().unsqueeze(0)
    variance = spread.squeeze(-1).square().unsqueeze(0)
    return Side(drawn.statistics, Scale(variance, variance == 0, squares), left)


def coverage(
    name: str, population: Population, training: Population, rows: int, repetitions: int, probe: bool, seed: int = 0
) -> Cell:
    """Return one cell. probe: measure 200 of 1,000 training rows instead of all 200."""
    generator = torch.Generator().manual_seed(seed)
    task, size = population.task, 1000 if probe else 200
    whole = training.draw(generator, repetitions, size)
    seen = Drawn(whole.statistics[..., :200], whole.targets[..., :200])
    val = side(population.draw(generator, repetitions, rows), task, 1.0)
    found = gap(side(seen, task, 1 - 200 / size), val, task)
    exact = gap(side(whole, task, 0.0), val, task)  # for the means of the whole training part
    score = "r2" if task == "regression" else "accuracy"
    truths = {"loss": population.loss - exact["train/loss"], score: exact[f"train/{score}"] - population.score}
    without = found["gap/loss_low"].isnan()
    held = {
        key: ((found[f"gap/{key}_low"] - 1e-9 <= truth) & (truth <= found[f"gap/{key}_high"] + 1e-9)).double()
        for key, truth in truths.items()
    }
    held["loss"] = torch.where(without, 1.0, held["loss"])
    width = found[f"gap/{score}_high"] - found[f"gap/{score}_low"]
    means = {key: float(value.mean()) for key, value in held.items()}
    return Cell(
        name, "a fifth" if probe else "whole", rows, population.score, means["loss"], means[score],
        float(without.double().mean()), float(width.median()), float(width.min()),
    )  # fmt: skip


def populations(accuracy: float) -> dict[str, tuple[Population, Population]]:
    """Return each generator of classifications with that of its training part, whose accuracy is about 0.998."""
    fitted = 1 - (1 - accuracy) / 50
    return {
        "margins, spread 2": (margins(accuracy, 2), margins(fitted, 2)),
        "margins, spread 10": (margins(accuracy, 10), margins(fitted, 10)),
        "mixture": (mixture(accuracy), mixture(fitted)),
        "labels apart": (labels(accuracy, 0), labels(fitted, 0)),
        "labels together": (labels(accuracy, 0.5), labels(fitted, 0.5)),
    }


def grid(repetitions: int) -> Iterator[Cell]:
    """Yield every cell of the grid."""
    for accuracy, rows, probe in product(ACCURACIES, ROWS, (False, True)):
        for name, (population, training) in populations(accuracy).items():
            yield coverage(name, population, training, rows, repetitions, probe)
    for r2, rows, probe in product(R2, ROWS, (False, True)):
        for noise in ("normal", "t5", "skewed", "skewed targets"):
            population, training = regression(r2, noise), regression(max(r2, 1 - (1 - r2) / 4), noise)
            yield coverage(f"regression, {noise}", population, training, rows, repetitions, probe)


def table(cells: list[Cell]) -> str:
    """Return the table in markdown.

    For each generator the mean and the least coverage over its cells.
    """
    lines = [
        "| generator | cells | loss: mean, least | score: mean, least | no interval of the loss | least width |",
        "|---|---|---|---|---|---|",
    ]
    for few in sorted({_few(cell) for cell in cells}):
        lines.append(f"| **{'fewer than' if few else 'at least'} 5 errors expected** | | | | | |")
        for name in dict.fromkeys(cell.generator for cell in cells):
            chosen = [cell for cell in cells if cell.generator == name and _few(cell) is few]
            if chosen:
                lines.append(f"| {name} | {len(chosen)} | {_summary(chosen)} |")
        counted = [cell for cell in cells if _few(cell) is few]
        lines.append(f"| all | {len(counted)} | {_summary(counted)} |")
    return "\n".join(lines)


def _few(cell: Cell) -> bool:
    return "regression" not in cell.generator and cell.rows * (1 - cell.level) < 5 - 1e-9


def _summary(cells: list[Cell]) -> str:
    parts = [
        f"{fmean(values):.3f}, {min(values):.3f}"
        for values in ([cell.loss for cell in cells], [cell.score for cell in cells])
    ]
    return " | ".join([*parts, f"{fmean(cell.without for cell in cells):.3f}", f"{min(c.empty for c in cells):.2g}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--cells", action="store_true", help="print every cell first")
    given = parser.parse_args()
    cells = []
    for cell in grid(given.repetitions):
        cells.append(cell)
        if given.cells:
            print(*cell[:4], *(f"{value:.3f}" for value in cell[4:]), flush=True)
    print(table(cells))


if __name__ == "__main__":
    main()
