"""How often does a sweep claim that regularization helps where nothing can help? A thousand sweeps without an effect.

    python scripts/study/null_sweeps.py [--sweeps 1000] [--settings 7] [--seeds 3] [--rows 120]
    [--threads 1]

Small nets (10-12-3) are trained by plain gradient descent, all at once, on blobs that overlap; none
of reglab's training is used. In each sweep the baseline and every setting train on the same rows
with the same seeds, and a setting is nothing but other initial weights and another order of what is
left out: no setting has an effect, yet each has noise of its own over rows and seeds. Two kinds:

- *loss*: the settings are such do-nothing settings, judged by the validation loss. With one seed
  the luck of a seed cannot be told from an effect, whatever the test: there the report makes no
  claim, and says so
- *labels*: the labels are random, the settings are strengths of weight decay, judged by accuracy,
which none can raise

A *false claim* is a sweep in which some setting is said to be better than the baseline, at level
0.05 over all of them; *unpaired* is the rule of before, the baseline outside one standard error of
the best setting.
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from reglab.analysis.claims import claim
from reglab.analysis.paired import Scored

FEATURES, HIDDEN, CLASSES, TRAIN = 10, 12, 3, 60
STEPS, RATE = 120, 0.5


def blobs(sweeps: int, rows: int, random_labels: bool, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs [sweeps, rows, features] and class numbers [sweeps, rows], of other blobs in each sweep."""
    centres = torch.randn(sweeps, CLASSES, FEATURES, generator=draw)
    labels = torch.randint(CLASSES, (sweeps, rows), generator=draw)
    inputs = torch.randn(sweeps, rows, FEATURES, generator=draw) * 1.5
    inputs += centres.gather(1, labels[..., None].expand(-1, -1, FEATURES))
    if random_labels:
        labels = torch.randint(CLASSES, (sweeps, rows), generator=draw)
    return inputs, labels


def trained(
    inputs: torch.Tensor, labels: torch.Tensor, nets: int, decay: torch.Tensor, draw: torch.Generator
) -> list[torch.Tensor]:
    """Return the weights of ``nets`` nets a sweep, [sweeps, nets, ...].

    Each leaves some rows out by itself.
    """
    sweeps, rows = labels.shape
    shapes = [(FEATURES, HIDDEN), (HIDDEN, CLASSES)]
    weights = [torch.randn(sweeps, nets, *shape, generator=draw) / math.sqrt(shape[0]) for shape in shapes]
    kept = (torch.rand(sweeps, nets, rows, generator=draw) < 0.8).float()
    wanted = torch.nn.functional.one_hot(labels, CLASSES).float()[:, None]
    for _ in range(STEPS):
        hidden = torch.relu(inputs[:, None] @ weights[0])
        error = ((hidden @ weights[1]).softmax(-1) - wanted) * kept[..., None] / rows
        back = (error @ weights[1].mT) * (hidden > 0)
        slopes = [inputs[:, None].mT @ back, hidden.mT @ error]
        weights = [w - RATE * (s + decay[None, :, None, None] * w) for w, s in zip(weights, slopes, strict=True)]
    return weights


def judged(inputs: torch.Tensor, labels: torch.Tensor, weights: list[torch.Tensor], kind: str) -> np.ndarray:
    """Return what is to be minimized for each validation row, [sweeps, nets, rows]."""
    outputs = torch.relu(inputs[:, None] @ weights[0]) @ weights[1]
    truth = labels[:, None].expand(outputs.shape[:-1])
    if kind == "labels":
        return -(outputs.argmax(-1) == truth).double().numpy()
    losses = torch.nn.functional.cross_entropy(outputs.flatten(0, 2), truth.flatten(), reduction="none")
    return losses.view(truth.shape).double().numpy()


def sweeps_of(
    kind: str, sweeps: int, settings: int, seeds: int, rows: int, draw: torch.Generator
) -> Iterator[np.ndarray]:
    """Yield what each sweep's runs reach on each row, [1 + settings, seeds, rows], the baseline first."""
    nets = (settings + 1) * seeds
    strengths = torch.zeros(settings + 1)
    if kind == "labels":
        strengths[1:] = torch.logspace(-3, 0, settings) * 0.3
    for first in range(0, sweeps, 50):
        some = min(50, sweeps - first)
        inputs, labels = blobs(some, TRAIN + rows, kind == "labels", draw)
        weights = trained(inputs[:, :TRAIN], labels[:, :TRAIN], nets, strengths.repeat_interleave(seeds), draw)
        found = judged(inputs[:, TRAIN:], labels[:, TRAIN:], weights, kind)
        yield from found.reshape(some, settings + 1, seeds, rows)


def claims(runs: np.ndarray, number: int) -> tuple[bool, bool]:
    """Return whether a sweep claims that something helps.

    By the joint test, and by the unpaired rule of before.
    """
    scored = [Scored(tuple(range(len(one))), np.arange(one.shape[1]), one.mean(1), one) for one in runs]
    found = claim([{"": one} for one in scored[1:]], {"": scored[0]}, seed=number)
    means = np.array([one.values.mean() for one in scored])
    best = 1 + int(means[1:].argmin())
    seeds, rows = runs.shape[1:]
    error = runs[best].var(1, ddof=1).mean() / rows + (runs[best].mean(1).var(ddof=1) / seeds if seeds > 1 else 0.0)
    return bool(found and found.helps), bool(means[0] - means[best] > math.sqrt(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--settings", type=int, default=7)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table("kind", "seeds", "sweeps", "false claims", "± SE", "unpaired rule")
    for kind in ("loss", "labels"):
        for seeds in arguments.seeds:
            draw = torch.Generator().manual_seed(seeds)
            runs = sweeps_of(kind, arguments.sweeps, arguments.settings, seeds, arguments.rows, draw)
            found = np.array([claims(one, number) for number, one in enumerate(runs)])
            share = found.mean(0)
            error = math.sqrt(share[0] * (1 - share[0]) / len(found))
            table.add_row(kind, str(seeds), str(len(found)), f"{share[0]:.3f}", f"{error:.3f}", f"{share[1]:.3f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
