"""A small classification and its training by the engine: what a hand-written loop is
compared to.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reglab.data import DataSet, Part
from reglab.measures import MeasureSettings
from reglab.regularizers import Cocktail, Regularizer
from reglab.tracking import TrackingSettings, open_run
from reglab.training.experiment import Experiment
from reglab.training.fit import fit
from reglab.training.loader import epoch_order
from reglab.training.recipe import Recipe

ROWS, FEATURES, CLASSES, BATCH, EPOCHS = 41, 5, 3, 8, 3
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.02}


def blobs(weights: Tensor | None = None, offset: float = 0.0) -> DataSet:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(ROWS + 20, FEATURES, generator=generator) + offset
    targets = (inputs[:, :CLASSES] + torch.randn(ROWS + 20, CLASSES, generator=generator)).argmax(1)
    even, clean = torch.ones(ROWS + 20), torch.zeros(ROWS + 20, dtype=torch.bool)
    if weights is not None:
        even[:ROWS] = weights

    def part(rows: slice) -> Part:
        index = torch.arange(ROWS + 20)[rows]
        return Part(inputs[rows], targets[rows], index, even[rows], clean[rows], targets[rows])

    parts = part(slice(0, ROWS)), part(slice(ROWS, ROWS + 10)), part(slice(ROWS + 10, None))
    names = tuple(f"x{column}" for column in range(FEATURES))
    return DataSet("blobs", "classification", *parts, CLASSES, (FEATURES,), names, ("a", "b", "c"), "0" * 64, {})


def net(norm: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        extra = [nn.BatchNorm1d(7)] if norm else []
        return nn.Sequential(nn.Linear(FEATURES, 7), *extra, nn.ReLU(), nn.Linear(7, CLASSES))


def by_engine(
    model: nn.Module,
    folder: Path,
    members: Mapping[str, Regularizer] | None = None,
    *,
    data: DataSet | None = None,
    trainer: Mapping[str, Any] | None = None,
    seed: int = 0,
    **recipe: Any,
) -> list[dict[str, float]]:
    """Train ``model`` in place and return what was recorded of each epoch, from 0."""
    settings = {"optimizer": ADAM, "batch_size": BATCH, "epochs": EPOCHS, **recipe}
    job = Experiment(
        model,
        Cocktail(members or {}, seed, "classification"),
        data or blobs(),
        Recipe(**settings),
        MeasureSettings(),
        {"accelerator": "cpu", **(trainer or {})},
    )
    nowhere = TrackingSettings("none", "", "solo", None)
    tracker = open_run(nowhere, name="solo", folder=folder, config={}, params={}, tags={})
    message: list[dict[str, float]] = []
    fit(job, tracker, lambda progress: message.append(progress.metrics))
    tracker.finish()
    return message


def batches(epoch: int, seed: int = 0) -> Sequence[Tensor]:
    """Return the rows of each step: the documented order, cut in batches; a single last row joins
    the one before.
    """
    parts = list(epoch_order(ROWS, seed, epoch).split(BATCH))
    return [*parts[:-2], torch.cat(parts[-2:])] if len(parts[-1]) == 1 else parts


def by_hand(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: DataSet | None = None,
    *,
    clip: float | None = None,
    scheduler: Any = None,
    by_step: bool = True,
) -> list[float]:
    """Train as one would by hand, and return the learning rate of the last step of each epoch."""
    train, rates = (data or blobs()).train, []
    model.train()
    for epoch in range(EPOCHS):
        for rows in batches(epoch):
            optimizer.zero_grad()
            losses = functional.cross_entropy(model(train.inputs[rows]), train.targets[rows], reduction="none")
            (losses * train.weights[rows]).mean().backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            if scheduler is not None and by_step:
                scheduler.step()
        rates.append(rate)
        if scheduler is not None and not by_step:
            scheduler.step()
    return rates


def assert_same_bits(actual: nn.Module, wanted: nn.Module) -> None:
    mine, theirs = actual.state_dict(), wanted.state_dict()
    assert mine.keys() == theirs.keys()
    assert [name for name, tensor in theirs.items() if not torch.equal(mine[name], tensor)] == []
