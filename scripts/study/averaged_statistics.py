"""Which BatchNorm statistics averaged weights should have.

The last ones, averaged ones, or ones taken anew.

A bare loop on digits, without reglab's engine: validation loss of the averaged weights with each,
over three seeds. ``python scripts/study/averaged_statistics.py`` takes about a minute and a half;
the table is in docs/kinds.md.
"""

import copy
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor, nn

import reglab
from reglab.data import DataSet
from reglab.models import CNN, MLP

SEEDS = (0, 1, 2)


class Case(NamedTuple):
    """A net (mlp or cnn), its optimizer, the decay of the average, the share of wrong labels."""

    net: str
    optimizer: str
    lr: float
    decay: float
    epochs: int
    noise: float
    batch: int


CASES = (
    Case("mlp", "adam", 1e-3, 0.99, 20, 0.0, 32),
    Case("mlp", "adam", 1e-2, 0.99, 20, 0.2, 32),
    Case("mlp", "sgd", 0.1, 0.999, 20, 0.0, 32),
    Case("mlp", "sgd", 0.3, 0.9, 10, 0.2, 16),
    Case("cnn", "adam", 1e-3, 0.99, 15, 0.0, 32),
    Case("cnn", "adam", 1e-2, 0.999, 15, 0.2, 32),
    Case("cnn", "sgd", 0.1, 0.99, 15, 0.0, 128),
)


def network(case: Case) -> nn.Module:
    """Return a net with BatchNorm for the digits as images."""
    if case.net == "cnn":
        return CNN([16, 32], norm="batch", inputs=(1, 8, 8), outputs=10)
    return MLP(128, 2, norm="batch", inputs=(1, 8, 8), outputs=10)


def trained(case: Case, data: DataSet, seed: int) -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """Return the trained model, one with its averaged weights, and the averaged statistics by name."""
    torch.manual_seed(seed)
    model = network(case)
    weights = model.parameters()
    adam = case.optimizer == "adam"
    optimizer = torch.optim.Adam(weights, case.lr) if adam else torch.optim.SGD(weights, case.lr, momentum=0.9)
    average = copy.deepcopy(model)
    statistics = {name: it.clone() for name, it in model.named_buffers() if it.is_floating_point()}
    generator, steps = torch.Generator().manual_seed(seed), 0
    for _ in range(case.epochs):
        for rows in torch.randperm(len(data.train), generator=generator).split(case.batch):
            if len(rows) < 2:
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.train.inputs[rows]), data.train.targets[rows]).backward()
            optimizer.step()
            steps += 1
            share = 1.0 if steps == 1 else 1 - min(case.decay, steps / (steps + 9))
            with torch.no_grad():
                for kept, now in zip(average.parameters(), model.parameters(), strict=True):
                    kept.lerp_(now, share)
                for name, kept in statistics.items():
                    kept.lerp_(model.get_buffer(name), share)
    return model, average, statistics


def losses(case: Case, seed: int) -> dict[str, float]:
    """Return the validation loss of the averaged weights with each kind of statistics."""
    data = reglab.dataset("digits", shape="image", label_noise=case.noise, split_seed=seed)
    model, average, statistics = trained(case, data, seed)

    def loss() -> float:
        average.eval()
        with torch.no_grad():
            return float(nn.functional.cross_entropy(average(data.val.inputs), data.val.targets))

    found = {}
    for kind, source in (("last", dict(model.named_buffers())), ("averaged", statistics)):
        with torch.no_grad():
            for name in statistics:
                average.get_buffer(name).copy_(source[name])
        found[kind] = loss()
    torch.optim.swa_utils.update_bn(data.train.inputs.split(case.batch), average)
    found["anew"] = loss()
    return found


def main() -> None:
    for case in CASES:
        seeds = [losses(case, seed) for seed in SEEDS]
        means = "  ".join(f"{kind} {mean(each[kind] for each in seeds):.4f}" for kind in seeds[0])
        gains = " ".join(f"{each['averaged'] - each['last']:+.4f}" for each in seeds)
        print(f"{case}\n  {means}  averaged - last by seed: {gains}")


if __name__ == "__main__":
    main()
