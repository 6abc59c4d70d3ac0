"""A pack on streamed images beside the same jobs one by one: epochs of training, nothing measured.

    python scripts/bench/streamed_packs.py [--images 1000] [--members 8] [--rounds 3] [--workers 1]

Photos of 256 x 256 are read as 32 x 32.

Once with members of one seed, which share an order and read each batch once, and once with a seed
each, which read the union. Both ways alternate, so that a busy machine slows both; ratios are of
the same round, and one round before the first is not counted. Steps are traced, not compiled;
the pack's seconds include tracing and the choice of its convolutions.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from overhead import machine
from PIL import Image

from reglab.config.pack_settings import PackSettings
from reglab.config.paths import conf_dir
from reglab.training.experiment import Experiment
from reglab.training.fused.job import prepare, prepare_jobs
from reglab.training.fused.module import PackModule
from reglab.training.solo import Solo
from reglab.training.trainer import build_trainer, quiet_lightning

EPOCHS = 3


def make_photos(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class{number % 4}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((256, 256), Image.Resampling.BILINEAR).save(path, quality=90)


def jobs(folder: Path, members: int, workers: int, seeds: bool) -> list[DictConfig]:
    """Return jobs that differ in strength or in seed."""
    words = ["data=image_folder", f"data.path={folder}", "data.size=32", "data.stream=true", "data.batch_size=64"]
    words += [f"data.workers={workers}", "model=cnn", "model.channels=[8]", f"trainer.max_epochs={EPOCHS}"]
    words += ["trainer.accelerator=cpu", "regularizer=[l2]"]
    own = [f"seed={number}" if seeds else f"regularizer.l2.strength={number * 1e-3}" for number in range(members)]
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        return [compose("train", [*words, each]) for each in own]


def train(experiment: Experiment, module: Solo | PackModule) -> None:
    with quiet_lightning():
        build_trainer(experiment, []).fit(module, train_dataloaders=module.loader())


def together(configs: Sequence[DictConfig]) -> None:
    experiments = [job.experiment for job in prepare_jobs(configs)]
    pack, _ = prepare(experiments, PackSettings(compile=False, always=True))
    train(experiments[0], PackModule(pack))


def one_by_one(configs: Sequence[DictConfig]) -> None:
    for config in configs:
        (job,) = prepare_jobs([config])
        each, data = job.experiment, job.experiment.data
        train(each, Solo(each.model, each.cocktail, data.train, data.criterion, each.recipe))


def seconds(configs: Sequence[DictConfig], rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of the pack, tracing included, and of the jobs one by one, of each round."""
    found = []
    for number in range(rounds + 1):
        taken = []
        for run in (together, one_by_one):
            began = time.perf_counter()
            run(configs)
            taken.append(time.perf_counter() - began)
        found += [(taken[0], taken[1])] if number else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    with tempfile.TemporaryDirectory() as temporary:
        make_photos(Path(temporary), options.images)
        for seeds in (False, True):
            found = seconds(jobs(Path(temporary), options.members, options.workers, seeds), options.rounds)
            ratios = sorted(fused / solo for fused, solo in found)
            print(
                f"{options.members} jobs of {EPOCHS} epochs, {'a seed each' if seeds else 'one seed'}: pack "
                f"{median(fused for fused, _ in found):.1f} s, one by one {median(solo for _, solo in found):.1f} s; "
                f"ratio {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} rounds)"
            )


if __name__ == "__main__":
    main()
