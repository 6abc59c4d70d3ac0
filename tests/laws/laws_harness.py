"""What the laws share: every method by its yaml, and small trainings through the real engine."""

import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from reglab.config.instantiate import build
from reglab.core.signals import Interrupted
from reglab.data import DataSet, Part
from reglab.measures import MeasureSettings
from reglab.regularizers import Cocktail, Regularizer
from reglab.tracking import TrackingSettings, open_run, reopen_run
from reglab.tracking.folder import JOURNAL
from reglab.tracking.journal import Journal
from reglab.training import checkpoint_files
from reglab.training.checkpoints import Checkpoints, resumable
from reglab.training.experiment import Experiment
from reglab.training.fit import fit
from reglab.training.recipe import Recipe
from reglab.training.recorder import Recorder
from reglab.training.solo import Solo
from reglab.training.trainer import build_trainer, quiet_lightning

CONF = Path(__file__).parents[2] / "conf" / "regularizer"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
# As strong as can be seen in a few steps: a law that holds for a strength of 1e-4 may only hold by
# rounding. Where 0.05, or what the yaml has, is too weak for that, or so strong that it amplifies
# rounding (a penalty with a kink at 0, say): another number.
STRENGTHS = {"ema": 0.7, "max_norm": 0.6, "flooding": 1.0}
ROWS, FEATURES, CLASSES = 44, 6, 3
NOWHERE = TrackingSettings("none", "", "laws", None)


@cache
def _yaml(name: str) -> DictConfig:
    return OmegaConf.load(CONF / f"{name}.yaml")


def node(name: str) -> dict[str, dict[str, Any]]:
    """Return what the method's yaml puts under ``regularizer``."""
    content: dict[str, dict[str, Any]] = OmegaConf.to_container(_yaml(name))
    for member in content.values():
        if "strength" in member:
            member["strength"] = STRENGTHS.get(name, max(member["strength"], 0.05))
    return content


def members(name: str, **changes: float) -> dict[str, Regularizer]:
    """Return the yaml's members, with hyperparameters changed."""
    return {key: build({**inner, **changes}, Regularizer, f"regularizer.{key}") for key, inner in node(name).items()}


def blobs(dtype: torch.dtype = torch.float32) -> DataSet:
    """Return a small classification, noisy enough that nothing is fitted at once."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3 * ROWS, FEATURES, generator=generator).to(dtype)
    targets = (inputs[:, :CLASSES] + torch.randn(3 * ROWS, CLASSES, generator=generator)).argmax(1)
    rows = torch.arange(3 * ROWS)
    even, clean = torch.ones(3 * ROWS), torch.zeros(3 * ROWS, dtype=torch.bool)
    parts = [
        Part(inputs[part], targets[part], rows[part], even[part], clean[part], targets[part].clone())
        for part in rows.split(ROWS)
    ]
    names = tuple(f"x{i}" for i in range(FEATURES))
    return DataSet(
        "blobs", "classification", *parts, CLASSES, (FEATURES,), names, ("a", "b", "c"), "0" * 64, {"rows": 3 * ROWS}
    )


def small_model(dtype: torch.dtype = torch.float32, seed: int = 0, norm: bool = True) -> nn.Module:
    """Return a small net with what is easily got wrong: BatchNorm and a dropout of the user's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(FEATURES, 8), *([nn.BatchNorm1d(8)] if norm else []), nn.Tanh(), nn.Dropout(0.1)]
        return nn.Sequential(*layers, nn.Linear(8, CLASSES)).to(dtype)


class Transposed(nn.Module):
    """A transposed convolution in groups: its units lie along the second axis of its weight. And a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, 8)
        self.up = nn.ConvTranspose1d(4, 6, 2, groups=2)
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(18, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.up(self.first(inputs).relu().reshape(-1, 4, 2))
        outputs: Tensor = self.head(self.norm(hidden).flatten(1))
        return outputs


def transposed_model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Transposed().double()


@cache
def measure_nodes() -> dict[str, Any]:
    """Return the node of each measure in ``conf/measure``."""
    found: dict[str, Any] = {}
    for path in sorted((Path(__file__).parents[2] / "conf" / "measure").glob("*.yaml")):
        content = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(content, dict)
        found |= {str(name): each for name, each in content.items() if isinstance(each, Mapping)}
    return found


def experiment(
    regularizers: Mapping[str, Regularizer],
    *,
    model: nn.Module | None = None,
    optimizer: Mapping[str, Any] | None = None,
    epochs: int = 3,
    batch_size: int = 10,
    steps_per_batch: int = 1,
    seed: int = 0,
    trainer: Mapping[str, Any] | None = None,
    checkpoint_seconds: float = 10.0,
) -> Experiment:
    return Experiment(
        model or small_model(),
        Cocktail(regularizers, seed, "classification"),
        blobs(),
        Recipe(
            optimizer or {"_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.5},
            {},
            None,
            batch_size,
            steps_per_batch,
            epochs,
        ),
        MeasureSettings(),
        {"accelerator": "cpu", **(trainer or {})},
        checkpoint_seconds=checkpoint_seconds,
    )


def trained(
    job: Experiment, folder: Path | None = None, resume: Path | None = None, **options: Any
) -> dict[str, Tensor]:
    """Train, with ``options`` of ``fit``, and return everything as it was at the end: weights, buffers, state of the
    regularizers.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or Path(temporary)
        tracker = open_run(NOWHERE, name="law", folder=folder, config={}, params={}, tags={})
        fit(job, tracker, resume=checkpoint_files.load(resume) if resume else None, **options)
        tracker.finish()
        state: dict[str, Tensor] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.startswith("model.")}


def assert_same_bits(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [key for key in first if not torch.equal(first[key], second[key])]
    assert not different, f"not bit-identical: {different}"


class SaveAt(pl.Callback):
    """Saves a checkpoint after so many optimizer steps, and ends training there."""

    def __init__(self, step: int, path: Path) -> None:
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if int(pl_module.cocktail.keys.step) == self.step:
            trainer.save_checkpoint(self.path)
            raise _Cut


class _Cut(Exception):  # noqa: N818 - it cuts training short, as a kill would
    pass


def cut_and_resumed(
    make: Callable[[], Experiment], step: int, folder: Path, callbacks: Sequence[pl.Callback] = ()
) -> dict[str, Tensor]:
    """Train to ``step``, die there, and go on in a new module from the checkpoint."""
    path = folder / "cut.ckpt"
    job = make()
    tracker = open_run(NOWHERE, name="law", folder=folder / "a", config={}, params={}, tags={})
    module = Solo(job.model, job.cocktail, job.data.train, job.data.task, job.recipe)
    checkpoints = Checkpoints(module, folder / "a" / "checkpoints", "val/loss")
    recorder = Recorder(module, [job.data], job.measure, [tracker], checkpoints)
    with quiet_lightning():
        trainer = build_trainer(job, [recorder, checkpoints, *callbacks, SaveAt(step, path)])
        with suppress(_Cut):
            trainer.fit(module, train_dataloaders=module.loader())
    tracker.finish()
    return trained(make(), folder / "b", resume=path, callbacks=callbacks)


def interrupted_and_resumed(make: Callable[[], Experiment], step: int, folder: Path) -> dict[str, Tensor]:
    """Train until a signal comes in the ``step``th step, then go on in a new module as the same run."""

    class Asked(Solo):
        def step(self, rows: Tensor) -> Any:
            outcome = super().step(rows)
            if int(self.cocktail.keys.step) == step:
                signal.raise_signal(signal.SIGTERM)
            return outcome

    tracker = open_run(NOWHERE, name="law", folder=folder, config={}, params={}, tags={})
    with suppress(Interrupted):
        fit(make(), tracker, module_class=Asked)
    tracker.finish("KILLED")
    tracker = reopen_run(folder)
    fit(make(), tracker, resume=resumable(folder / "checkpoints"))
    tracker.finish()
    assert (tracker.journal.dropped, tracker.journal.conflicts) == (0, 0)  # what was recorded is not trained again
    return checkpoint_files.read(folder / "checkpoints" / "last.ckpt")["state_dict"]


def rows_of(folder: Path) -> dict[tuple[str, int], float]:
    """Return all that a run recorded by metric and step, but what its clock and memory were."""
    rows = [row for row in Journal(folder / JOURNAL).rows() if not row.key.startswith(("system/", "time/"))]
    assert len({(row.key, row.step) for row in rows}) == len(rows)
    return {(row.key, row.step): row.value for row in rows}
