"""Streamed and in-memory training of the same rows agree bit for bit: weights, journal, examples, test part."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from PIL import Image

from reglab.analysis.per_example_file import FILE
from reglab.core.errors import UserError
from reglab.tracking.folder import JOURNAL
from reglab.tracking.journal import Journal
from reglab.training import checkpoint_files, job
from reglab.training.job_result import JobResult
from reglab.training.solo import Solo
from training.job_case import Case, config

IMAGES = ("data=image_folder", "data.path=photos", "data.size=6", "data.batch_size=8", "model=cnn")
FEW = ("model.channels=[4]", "trainer.max_epochs=3", "trainer.accelerator=cpu", "optimizer.lr=1e-2")
STREAMED = ("data.stream=true", "data.workers=0")
Train = Callable[..., JobResult]


class Cut(BaseException):
    """Stands for what ends a process."""


@pytest.fixture
def photos(case: Case) -> Path:
    """Two classes of 30 images each, of noise."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (case.folder / "photos" / name).mkdir(parents=True)
        for number in range(30):
            pixels = generator.integers(0, 255, (7, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(case.folder / "photos" / name / f"{number:02}.png")
    return case.folder / "photos"


@pytest.fixture
def train(case: Case, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train a small job in ``folder``, as a sweep would."""

    def train(*overrides: str, folder: str) -> JobResult:
        hydra = {"runtime": {"output_dir": str(case.folder / folder)}, "overrides": {"task": list(overrides)}}
        monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": hydra}))
        return job.run_job(config(*IMAGES, *FEW, "trainer.checkpoint_seconds=0", *overrides))

    return train


def assert_equal(first: Path, second: Path) -> None:
    ours, theirs = (
        checkpoint_files.read(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (first, second)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    journals = [
        {(row.key, row.step): row.value for row in Journal(folder / JOURNAL).rows() if "system/" not in row.key}
        for folder in (first, second)
    ]
    assert journals[0] == journals[1]
    # Of a loss of a whole batch there is none.
    examples = [(folder / FILE).read_bytes() if (folder / FILE).exists() else b"" for folder in (first, second)]
    assert examples[0] == examples[1]


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("data.workers=2",),
        ("data.standardize=false", "data.replicas=2", "data.replica=1", "data.train_size=21"),
        ("data.label_noise=0.3", "data.class_weight=balanced", "data.channels=1"),
        ("trainer.accumulate_grad_batches=2", "data.batch_size=5", "model.norm=batch"),
        ("regularizer=[l1,dropout,mixup,sam]", "trainer.precision=64-true", "data.folds=3", "data.fold=1"),
        ("+loss._target_=torch.nn.HuberLoss", "+loss.reduction=none", "measure.test=true"),
        ("+loss._target_=torch.nn.HuberLoss",),
        ("+trainer.limit_train_batches=3", "measure.probe_rows=10", "measure.test=true"),
    ],
    ids=lambda more: ",".join(more) or "plain",
)
def test_streamed_training_gives_the_bits_of_training_in_memory(
    case: Case, train: Train, photos: Path, more: tuple[str, ...]
) -> None:
    streamed = train(*STREAMED, *more, folder="streamed")
    memory = train("data.stream=false", *more, folder="memory")
    assert streamed.status == memory.status == "FINISHED"
    assert_equal(case.folder / "streamed", case.folder / "memory")
    tags = [case.run(result.run_id).data.tags for result in (streamed, memory)]
    assert tags[0]["reglab.fingerprint"] == tags[1]["reglab.fingerprint"]
    assert streamed.metrics == pytest.approx(memory.metrics, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_cut_off_inside_an_epoch_resumes_streamed_with_the_bits_of_an_uninterrupted_one(
    case: Case, train: Train, photos: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    words = (f"data.workers={workers}", "trainer.steps_per_batch=1", "regularizer=[dropout,mixup]")
    step, at = Solo.step, [7]  # an epoch has 5 steps

    def cut_step(self: Solo, rows: torch.Tensor) -> object:
        if self.steps_done() == at[0]:
            raise Cut
        return step(self, rows)

    monkeypatch.setattr(Solo, "step", cut_step)
    with pytest.raises(Cut):
        train("data.stream=true", *words, folder="it")
    at[0] = -1
    assert train("data.stream=true", *words, folder="it").status == "FINISHED"
    train("data.stream=false", *words, folder="whole")
    assert_equal(case.folder / "it", case.folder / "whole")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_any_more_is_named(
    case: Case, train: Train, photos: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """It was there when the data were loaded, and breaks in the second epoch."""
    step = Solo.step

    def breaking(self: Solo, rows: torch.Tensor) -> object:
        if self.steps_done() == 1:
            for image in photos.glob("*/*.png"):
                image.write_bytes(b"no picture")
        return step(self, rows)

    monkeypatch.setattr(Solo, "step", breaking)
    with pytest.raises(UserError, match=r"photos/(cat|dog)/\d\d\.png cannot be read .*or remove it"):
        train("data.stream=true", f"data.workers={workers}", folder="it")
    (run,) = case.runs()
    assert run.info.status == "FAILED"


def test_what_needs_all_inputs_in_memory_is_refused_by_name(train: Train, photos: Path) -> None:
    with pytest.raises(UserError, match=r"trainer\.polish_steps needs all training rows in memory.*leave it out"):
        train(*STREAMED, "regularizer=[l1]", "trainer.polish_steps=3", folder="it")
    with pytest.raises(UserError, match=r"data\.stream=often: .*auto, true, false"):
        train("data.stream=often", folder="it")
