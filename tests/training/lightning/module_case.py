"""Jobs of a LightningModule, and what they left."""

import json
from collections.abc import Callable
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor

from reglab.config.paths import conf_dir
from reglab.tracking.journal_lines import metric_rows
from reglab.training import checkpoint_files
from reglab.training.job_result import JobResult


class Cut(BaseException):
    """Stands for what ends a process."""


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", ["trainer.accelerator=cpu", *overrides])


Run = Callable[..., JobResult]


def state(folder: Path) -> dict[str, Tensor]:
    content = checkpoint_files.read(folder / "checkpoints" / "last.ckpt")
    return {name.removeprefix("model."): value for name, value in content["state_dict"].items()
            if name.startswith("model.")}  # fmt: skip


def rows(folder: Path) -> dict[tuple[str, int], list[float]]:
    found: dict[tuple[str, int], list[float]] = {}
    for line in (folder / "journal.jsonl").read_text().splitlines():
        for row in metric_rows(json.loads(line)):
            if not row.key.startswith("system/"):
                found.setdefault((row.key, row.step), []).append(row.value)
    return found
