"""Every yaml of every config group makes a job that is whole and passes the checks before training."""

from collections.abc import Iterator
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from data.test_shards import sample, write
from reglab.config import trust
from reglab.config.lightning_loop import uses_lightning_loop
from reglab.config.paths import conf_dir
from reglab.core.errors import UserError
from reglab.training.check import check_experiment
from reglab.training.fused.job import prepare_jobs
from reglab.training.lightning.prepare import prepare_module, seeded

OPTIONS = sorted((path.parent.name, path.stem) for path in conf_dir().glob("*/*.yaml") if not path.stem.startswith("_"))
PROJECT = "training.lightning.own_project"
LIGHTNING = ["model=lightning", f"model._target_={PROJECT}.Simple"]
NEEDS = {  # what an option leaves to its user
    ("data", "table"): ["data.path=rows.csv", "data.target=price"],
    ("data", "image_folder"): ["data.path=photos", "data.size=8", "model=cnn"],
    ("data", "arrays"): ["data.inputs=x.npy", "data.targets=y.npy"],
    ("data", "parquet"): ["data.path=rows.parquet", "data.targets=price"],
    ("data", "shards"): ["data.path=rows.tar", "data.size=8"],
    ("data", "windows"): ["data.path=rows.csv", "data.target=price", "data.length=4"],
    ("data", "dataset"): ["data._target_=data.map_datasets.Pairs"],
    ("data", "tokens"): [
        "model=custom", "model._target_=torch.nn.EmbeddingBag", "+model.num_embeddings=100", "+model.embedding_dim=4",
    ],
    ("data", "lightning"): [*LIGHTNING, f"data._target_={PROJECT}.PointsModule", "+model.inputs=6"],
    ("model", "lightning"): LIGHTNING,
    ("optimizer", "own"): LIGHTNING,
    ("model", "cnn"): ["data=digits"],
    ("model", "custom"): ["model._target_=torch.nn.Linear"],
    ("model", "timm"): ["model.name=resnet18", "data=digits"],
    ("model", "transformers"): ["model.name=bert", "data=tokens"],
}  # fmt: skip
REFUSED = {  # where something is missing here; with the way out
    name: message
    for name, message, there in (
        (("model", "timm"), "scripts/setup timm", find_spec("timm")),
        (("model", "transformers"), "scripts/setup transformers", find_spec("transformers")),
        (("trainer", "gpu"), "GPU|gpu|CUDA", torch.cuda.is_available()),
    )
    if not there
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a small table and a few small images."""
    made = tmp_path_factory.mktemp("options")
    rows = [f"{number % 7},{number % 5},{(number * 3) % 11}" for number in range(80)]
    (made / "rows.csv").write_text("\n".join(["size,rooms,price", *rows]) + "\n")
    pd.read_csv(made / "rows.csv").to_parquet(made / "rows.parquet")
    generator = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (made / "photos" / kind).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(made / "photos" / kind / f"{number}.png")
    write(made / "rows.tar", {str(number): sample(number) | {"seg.png": b""} for number in range(80)})
    np.save(made / "x.npy", generator.normal(size=(80, 3)))
    np.save(made / "y.npy", generator.integers(0, 2, 80))
    with chdir(made), trust.isolated():
        trust.trust("data")
        yield made


@pytest.mark.parametrize("group, name", OPTIONS, ids=[f"{group}={name}" for group, name in OPTIONS])
def test_it_makes_a_job(group: str, name: str, folder: Path) -> None:
    words = {"data": "wine", "tracking": "none"} if group != "experiment" else {"tracking": "none"}
    alone = group == "measure" and name not in ("default", "full", "gap", "off")  # a run is judged by its gap
    words[group] = f"[gap,{name}]" if alone else name
    overrides = [f"{key}={value}" for key, value in words.items()]
    needs = NEEDS.get((group, name), [])
    overrides = [word for word in overrides if word.partition("=")[0] not in {n.partition("=")[0] for n in needs}]
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        config = compose("train", [*overrides, *needs])
    assert OmegaConf.missing_keys(config) == set()
    if (group, name) in REFUSED:
        with pytest.raises(UserError, match=REFUSED[group, name]):
            _built(config)
    else:
        _built(config)


def _built(config: DictConfig) -> None:
    if uses_lightning_loop(config):
        with trust.isolated(), seeded(0):
            trust.trust("training")
            prepare_module(config)
        return
    experiment = prepare_jobs([config])[0].experiment
    check_experiment(experiment)
