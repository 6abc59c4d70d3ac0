"""What a LightningModule's step costs in a job of reglab (model=lightning), beside Lightning's own Trainer.

    python scripts/bench/own_module.py [--rounds 5] [--steps 200] [--width 700] [--regularizers l1,ema]

Each round trains the same module on the same batches in three ways, in turn: by Lightning alone, in
a job of reglab without regularizers, and with some. Only the steps of training count, from the end
of the first to the end of the last: measuring the gap is apart. Ratios are to Lightning in the same
round, medians with the smallest and largest.
"""

import argparse
import platform
import sys
import tempfile
import time
from contextlib import chdir
from statistics import median
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from reglab.config import trust
from reglab.config.paths import conf_dir
from reglab.training.lightning.job import run_module_job
from reglab.training.trainer import quiet_lightning

ROWS, INPUTS = 64, 64
ended: list[float] = []  # when each step ended


class Deep(pl.LightningModule):
    """A network whose step takes milliseconds."""

    def __init__(self, width: int = 700) -> None:
        super().__init__()
        hidden = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.ReLU())]
        self.net = nn.Sequential(nn.Linear(INPUTS, width), nn.ReLU(), *hidden, nn.Linear(width, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.net(inputs)
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def on_train_batch_end(self, *_: Any) -> None:
        ended.append(time.perf_counter())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Noise(pl.LightningDataModule):
    """Rows of noise, as many as the steps take."""

    def __init__(self, steps: int = 200) -> None:
        super().__init__()
        self.steps = steps

    def train_dataloader(self) -> Any:
        inputs = torch.randn(self.steps * ROWS, INPUTS)
        return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), ROWS, shuffle=True)

    def val_dataloader(self) -> Any:
        inputs = torch.randn(4 * ROWS, INPUTS)
        return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), ROWS)


def by_lightning(width: int, steps: int) -> float:
    ended.clear()
    with quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Deep(width), datamodule=Noise(steps))
    return (ended[-1] - ended[0]) / (len(ended) - 1)


def by_reglab(width: int, steps: int, regularizers: str) -> float:
    ended.clear()
    words = [
        "model=lightning", f"model._target_={Deep.__module__}.Deep", f"+model.width={width}", "data=lightning",
        f"data._target_={Deep.__module__}.Noise", f"+data.steps={steps}", f"regularizer=[{regularizers}]",
        "trainer.accelerator=cpu", "trainer.max_epochs=1", "tracking=none",
    ]  # fmt: skip
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", words)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        result = run_module_job(config)
    assert result.status == "FINISHED", result.message
    return (ended[-1] - ended[0]) / (len(ended) - 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--width", type=int, default=700)
    parser.add_argument("--regularizers", default="l1,ema")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.modules["own_module"] = sys.modules["__main__"]  # as the config names its classes
    Deep.__module__ = Noise.__module__ = "own_module"
    trust.trust("own_module")
    seconds: dict[str, list[float]] = {"Lightning": [], "reglab": [], f"reglab, {given.regularizers}": []}
    for number in range(given.rounds + 1):
        taken = [
            by_lightning(given.width, given.steps),
            by_reglab(given.width, given.steps, ""),
            by_reglab(given.width, given.steps, given.regularizers),
        ]
        for kept, value in zip(seconds.values(), taken, strict=True):
            if number:  # the first round imports and warms up
                kept.append(value)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, 1 thread, "
          f"load {psutil.getloadavg()[0]:.1f}, {given.rounds} rounds of {given.steps} steps")  # fmt: skip
    for name, values in seconds.items():
        ratios = [own / bare for own, bare in zip(values, seconds["Lightning"], strict=True)]
        print(f"{name:<20} {1e3 * median(values):7.2f} ms a step   "
              f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) of Lightning")  # fmt: skip


if __name__ == "__main__":
    main()
