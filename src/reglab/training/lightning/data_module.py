"""Data of a job in Lightning's own loop: a user's LightningDataModule, or a data set of ours as one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reglab import data
from reglab.config.instantiate import construct, locate
from reglab.config.lightning_loop import MARK, data_digest, is_data_module
from reglab.config.objects import build_arguments
from reglab.core.errors import UserError
from reglab.data import DataSet, Part
from reglab.tasks import task_named
from reglab.training.own_module import Package

_TASK = "task"


@dataclass(frozen=True)
class ModuleData:
    """What a job in Lightning's own loop trains on, as its run is told of it.

    Args:
        name: Of the data set, or of the class of the LightningDataModule.
        task: What the outputs are; None: the module's own ``validation_step`` is measured.
        sources: What ``Trainer.fit`` takes: a ``datamodule``, or loaders.
        test: What ``Trainer.test`` takes, likewise.
        digest: SHA-256 (hex) of our data set; of a user's LightningDataModule that of its config.
        summary: Plain values for params and notes.
        loaded: Our data set; None of a user's LightningDataModule.
    """

    name: str
    task: str | None
    sources: Mapping[str, Any]
    test: Mapping[str, Any]
    digest: str
    summary: Mapping[str, str | int | float | bool]
    loaded: DataSet | None = None


def build_data(node: Mapping[str, Any], package: Package) -> ModuleData:
    """Return the data of a job.

    Args:
        node: ``data`` of its resolved config.
        package: Of Lightning's two, that of the job's module.

    Raises:
        UserError: For bad input, naming the key.
    """
    if not is_data_module({"data": node}):
        loaded = data.load(node)
        if loaded.weighted:
            raise UserError(
                "data.class_weight and data.sample_weight have no effect with model=lightning: training_step computes "
                "the loss; weight it there, and leave them out"
            )
        if loaded.several:
            raise UserError(
                "data.inputs names several inputs, which model=lightning gets from its own loaders: give "
                "data=lightning data._target_=... instead"
            )
        batch_size = int(node["batch_size"])
        train, val, test = (_loader(part, batch_size) for part in (loaded.train, loaded.val, loaded.test))
        train = DataLoader(train.dataset, batch_size, shuffle=True)
        return ModuleData(
            loaded.name,
            loaded.task,
            {"train_dataloaders": train, "val_dataloaders": val},
            {"dataloaders": test},
            loaded.digest,
            loaded.summary,
            loaded,
        )
    task = node.get(_TASK)
    if task is not None:
        task = task_named(task, "data.task").name
    target = node.get("_target_")
    cls = locate(target, object, "data")
    if not issubclass(cls, package.get("LightningDataModule")):
        raise UserError(
            f"data._target_={target} is no LightningDataModule of {package.name}, from which the model's class comes"
        )
    arguments = build_arguments({key: value for key, value in node.items() if key not in (MARK, _TASK)}, "data")
    made = construct(cls, arguments, "data")
    sources: dict[str, Any] = {"datamodule": made}
    return ModuleData(cls.__name__, task, sources, sources, data_digest(node), {})


def _loader(part: Part, batch_size: int) -> DataLoader[Any]:
    return DataLoader(_PartRows(part), batch_size)


class _PartRows(Dataset[tuple[Tensor, Tensor]]):
    """Rows of a part, in memory or read from files, fetched by batch."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Return some rows, each ``(inputs, target)``."""
        chosen = torch.as_tensor(rows)
        return list(zip(self._part.inputs[chosen].unbind(), self._part.targets[chosen].unbind(), strict=True))
