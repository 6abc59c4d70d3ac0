"""What devices.py times: the models and data, the bare loop, the tracked run, and ranks started by torchrun."""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook

from reglab.data import DataSet, Part
from reglab.measures import MeasureSettings
from reglab.regularizers import Cocktail
from reglab.tracking import TrackingSettings, open_run
from reglab.tracking.mlflow.store import prepare
from reglab.training.experiment import Experiment
from reglab.training.fit import fit
from reglab.training.recipe import Recipe

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ADAM = {"_target_": "torch.optim.Adam", "lr": 1e-3}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9}
NOWHERE = TrackingSettings("none", "", "bench", None)
_numbers = count()


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.inner = nn.Sequential(
            *_convolution(inputs, width, 1), nn.ReLU(), *_convolution(width, width, 3, stride), nn.ReLU()
        )
        self.last = nn.Sequential(*_convolution(width, outputs, 1))
        changes = stride > 1 or inputs != outputs
        self.shortcut = nn.Sequential(*_convolution(inputs, outputs, 1, stride)) if changes else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.relu(self.last(self.inner(inputs)) + self.shortcut(inputs))


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


def resnet50(classes: int = 1000) -> nn.Sequential:
    """Return ResNet-50 (He et al. 2016), its stride in the 3 x 3 convolutions: 25,557,032 weights."""
    layers: list[nn.Module] = [*_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(blocks):
            layers.append(Bottleneck(inputs, width, stride if number == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def tiny() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def small_cnn(norm: bool = True) -> nn.Sequential:
    """Return 0.37 M weights that take 0.24 GFLOP an image of 32 x 32, so that its gradient is sent in no time.

    norm: with BatchNorm, whose statistics several processes share.
    """
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 64, 1), (64, 128, 2), (128, 256, 2)):
        convolution, *norms = _convolution(inputs, outputs, 3, stride)
        layers += [convolution, *(norms if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


@dataclass(frozen=True)
class Case:
    """A training. first, last: the updates between which steps are timed. val: rows of the validation part."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int
    batch: int
    first: int
    last: int
    optimizer: dict[str, Any] = field(default_factory=lambda: dict(ADAM))
    precision: str = "32-true"
    val: int = 256

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build()

    def data(self, epochs: int = 1) -> DataSet:
        """Return rows for the steps of ``epochs`` epochs.

        A few images again and again, since nothing is learnt.
        """
        train = self.batch * -(-self.last // epochs)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(64, *self.shape, generator=generator)
        targets = torch.randint(self.classes, (64,), generator=generator)

        def part(start: int, rows: int) -> Part:
            place, index = torch.arange(rows) % 64, torch.arange(start, start + rows)
            clean = torch.zeros(rows, dtype=torch.bool)
            return Part(images[place], targets[place], index, torch.ones(rows), clean, targets[place])

        parts = part(0, train), part(train, self.val), part(train + self.val, 2)
        names = tuple(map(str, range(self.classes)))
        return DataSet("noise", "classification", *parts, self.classes, self.shape, ("x",), names, "0" * 64, {})


def cases() -> dict[str, Case]:
    """Return what fits this machine: on a CPU images are small and few, and everything is float32."""
    tiny_case = Case("tiny MLP", tiny, (64,), 10, 64, 200, 2_200)
    if DEVICE.type == "cuda":
        large = Case("ResNet-50", resnet50, (3, 224, 224), 1000, 128, 10, 80, SGD, "bf16-mixed", 1000)
    else:
        large = Case("ResNet-50", resnet50, (3, 32, 32), 1000, 8, 3, 11, SGD, val=64)
    return {"tiny": tiny_case, "resnet": large}


def finished() -> float:
    """Return the time when the device has done all that it was told."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def at_updates(do: Callable[[int], None]) -> Iterator[None]:
    """Call ``do`` with the number of each update of any optimizer, from 1."""
    updates = count(1)
    handle = register_optimizer_step_post_hook(lambda *_: do(next(updates)))
    try:
        yield
    finally:
        handle.remove()


def seconds_a_step(case: Case, train: Callable[[], None]) -> float:
    """Return the mean time between updates ``case.first`` and ``case.last`` of what ``train`` does."""
    times: dict[int, float] = {}

    def at(update: int) -> None:
        if update in (case.first, case.last):
            times[update] = finished()

    with at_updates(at):
        train()
    return (times[case.last] - times[case.first]) / (case.last - case.first)


def bare(case: Case) -> Callable[[], None]:
    """Return the loop as one would write it with PyTorch alone; nothing is measured or logged."""
    train = case.data().train
    inputs, targets, model = train.inputs.to(DEVICE), train.targets.to(DEVICE), case.model().to(DEVICE)
    options = {key: value for key, value in case.optimizer.items() if key != "_target_"}
    optimizer = getattr(torch.optim, case.optimizer["_target_"].rpartition(".")[2])(model.parameters(), **options)
    mixed = case.precision == "bf16-mixed"

    def loop() -> None:
        for rows in torch.randperm(len(inputs)).to(DEVICE).split(case.batch):
            optimizer.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=mixed):
                loss = functional.cross_entropy(model(inputs[rows]), targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
            optimizer.step()

    return loop


def tracked(
    case: Case,
    folder: Path,
    store: TrackingSettings = NOWHERE,
    epochs: int = 1,
    trainer: dict[str, Any] | None = None,
) -> Callable[[], None]:
    """Return the same training by reglab, with everything on that is on by default."""
    accelerator = "gpu" if DEVICE.type == "cuda" else "cpu"
    job = Experiment(
        case.model(),
        Cocktail({}, 0, "classification"),
        case.data(epochs),
        Recipe(case.optimizer, batch_size=case.batch, epochs=epochs),
        MeasureSettings(),
        {"accelerator": accelerator, "devices": 1, "precision": case.precision, **(trainer or {})},
    )

    def run() -> None:
        own = folder / str(next(_numbers))
        tracker = open_run(store, name="bench", folder=own, config={}, params={}, tags={})
        fit(job, tracker)
        tracker.finish()

    return run


def store(folder: Path) -> TrackingSettings:
    """Return a fresh SQLite store, whose migrations are done."""
    template = folder / "template.db"
    if not template.exists():
        prepare(template)
    own = Path(tempfile.mkdtemp(dir=folder))
    shutil.copy(template, own / "reglab.db")
    return TrackingSettings.from_config({"experiment": "bench"}, own)


def rank() -> None:
    """Train as one of the ranks that torchrun started, with one thread, and let the first tell the rows a second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--no-norm", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ranks = int(os.environ["WORLD_SIZE"])
    trainer = {"accelerator": "cpu", "devices": ranks, "strategy": "ddp"} if ranks > 1 else {"accelerator": "cpu"}
    case = Case(
        "small CNN", partial(small_cnn, not options.no_norm), (3, 32, 32), 10, 64, 3, 3 + options.steps, SGD, val=2
    )
    with tempfile.TemporaryDirectory() as folder:
        taken = seconds_a_step(case, tracked(case, Path(folder), trainer={**trainer, "num_nodes": 1}))
    if os.environ["RANK"] == "0":
        print("rows a second:", case.batch / taken, flush=True)


if __name__ == "__main__":
    rank()
