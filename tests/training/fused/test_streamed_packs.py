"""A pack on streamed data ends with the bits of one in memory: weights, journal, examples; each row is read once."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from reglab.analysis.per_example_file import FILE
from reglab.data import Rows, load, stream_choice
from reglab.launchers import packing
from reglab.training.describe import plain
from reglab.training.fused.job import prepare_jobs
from reglab.training.fused.pack import Pack
from reglab.training.fused.window import Window
from training.fused.test_resume import assert_same, killed, recorded, run
from training.job_case import config

SMALL = (
    "data=image_folder", "data.size=6", "data.batch_size=8", "model=cnn", "model.channels=[4]", "optimizer.lr=1e-2",
    "trainer.max_epochs=3", "trainer.checkpoint_seconds=0", "tracking=none",
)  # fmt: skip
L2 = ("regularizer=[l2,dropout]",)
STRENGTHS = tuple((*L2, f"regularizer.l2.strength={strength}") for strength in (0, 0.1, 0.2))
SEEDS = tuple((*L2, f"seed={seed}") for seed in (0, 0, 1))
REPLICAS = tuple((*L2, "data.replicas=2", f"data.replica={replica}", "seed=3") for replica in (0, 1, 1))
NOISES = tuple((*L2, f"data.label_noise={share}") for share in (0.1, 0.2))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 30 images each, of noise."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            pixels = generator.integers(0, 255, (7, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    return folder


def jobs(photos: Path, members: Sequence[Sequence[str]], *more: str) -> list[DictConfig]:
    return [config(*SMALL, f"data.path={photos}", *each, *more) for each in members]


def assert_equal(mine: Path, right: Path, results: Any, expected: Any) -> None:
    assert_same(mine, right, results, expected)
    for number in expected:
        assert (mine / str(number) / FILE).read_bytes() == (right / str(number) / FILE).read_bytes()


@pytest.mark.parametrize(
    "members, more",
    [
        (SEEDS, ("data.workers=2", "trainer.precision=64-true")),
        (REPLICAS, ("data.workers=0", "measure.test=true")),
        (NOISES, ("data.workers=0", "data.batch_size=41")),  # a single row joins the batch before it
    ],
    ids=["seeds", "replicas", "noises"],
)
def test_a_streamed_pack_has_the_bits_of_one_in_memory(
    tmp_path: Path, photos: Path, members: Sequence[Sequence[str]], more: tuple[str, ...]
) -> None:
    streamed = run(jobs(photos, members, "data.stream=true", *more), tmp_path / "streamed")
    memory = run(jobs(photos, members, "data.stream=false", *more), tmp_path / "memory")
    assert [result.status for result in memory.values()] == ["FINISHED"] * len(members)
    assert_equal(tmp_path / "streamed", tmp_path / "memory", streamed, memory)


def test_a_streamed_pack_that_died_inside_an_epoch_has_the_bits_of_a_whole_one(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = jobs(photos, SEEDS, "data.stream=true", "data.workers=2", "trainer.steps_per_batch=1")
    killed(composed, tmp_path / "it", 7, monkeypatch)  # an epoch has 5 steps
    resumed = run(composed, tmp_path / "it")
    whole = run(jobs(photos, SEEDS, "data.stream=false", "trainer.steps_per_batch=1"), tmp_path / "whole")
    assert_equal(tmp_path / "it", tmp_path / "whole", resumed, whole)


def test_members_that_stop_early_leave_the_others_their_order(tmp_path: Path, photos: Path) -> None:
    stopping = ("regularizer=[early_stopping]", "optimizer.lr=0.1", "trainer.max_epochs=6")
    members = [
        (*stopping, f"regularizer.early_stopping.patience={patience}", f"seed={seed}")
        for seed, patience in enumerate((1, 1, 5, 5))
    ]
    more = ("data.workers=0",)
    streamed = run(jobs(photos, members, "data.stream=true", *more), tmp_path / "streamed")
    memory = run(jobs(photos, members, "data.stream=false", *more), tmp_path / "memory")
    epochs = [max(step for _, step, _ in recorded(tmp_path / "memory" / str(number))) for number in range(4)]
    assert max(epochs[:2]) < min(epochs[2:])  # two have left
    assert_equal(tmp_path / "streamed", tmp_path / "memory", streamed, memory)


def test_members_with_one_order_read_each_row_once_an_epoch(photos: Path) -> None:
    pack = Pack([job.experiment for job in prepare_jobs(jobs(photos, STRENGTHS, "data.stream=true"))])
    (source,) = pack.train_rows.sources
    counted = Counted(source)
    pack.train_rows = SimpleNamespace(**{**vars(pack.train_rows), "sources": (counted,)})  # type: ignore[assignment]
    window = Window(pack.train_rows, pack.loader.upcoming, pack.dtype)
    counted.rows.clear()
    for chunk in pack.loader:
        for entry in chunk:
            window.load(entry)
            inputs = pack.train_rows.inputs[pack.train_rows.input_row[entry]]  # type: ignore[index]
            torch.testing.assert_close(inputs, source[entry], rtol=0, atol=0)
    read = torch.cat(counted.rows[: pack.loader.per_epoch])
    assert sorted(read.tolist()) == list(range(len(source)))


class Counted:
    """Rows that remember what was read of them."""

    def __init__(self, inner: Rows) -> None:
        self.inner, self.rows = inner, list[torch.Tensor]()

    def batch(self, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        return self.inner.batch(rows, device)

    def read(self, batches: Iterator[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        for rows in batches:
            self.rows.append(rows)
            yield self.inner.batch(rows, device)


def test_jobs_that_are_not_all_streamed_are_no_pack(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``auto`` means shows when the data are loaded; ``true`` is known before."""
    plain_configs = {number: plain(each) for number, each in enumerate(jobs(photos, SEEDS, "data.stream=true"))}
    assert packing.plan(plain_configs).packs == ((0, 1, 2),)
    given = jobs(photos, SEEDS, "data.stream=auto")
    assert not prepare_jobs(given)[0].experiment.data.streamed
    monkeypatch.setattr(stream_choice.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert all(job.experiment.data.streamed for job in prepare_jobs(given))
    assert load({**plain(given[0])["data"]}).streamed
