"""LightningDataModules as users write them."""

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split

from data.map_datasets import Pairs


def part(**loader: Any) -> Any:
    return lambda _: DataLoader(Pairs(), **{"batch_size": 8, "shuffle": True} | loader)


def module(**methods: Any) -> type:
    loaders = {"train_dataloader": part(), "val_dataloader": part(), "test_dataloader": part(shuffle=False)}
    own = {name: method for name, method in (loaders | methods).items() if method is not None}
    return type("Own", (pl.LightningDataModule,), {"__module__": __name__, **own})


class Drawn(pl.LightningDataModule):
    """Points and a split of the global generators."""

    def __init__(self, batch_size: int = 16, split: str = "half") -> None:
        super().__init__()
        self.batch_size, self.stages = batch_size, [split]

    def prepare_data(self) -> None:
        self.stages.append("prepared")

    def setup(self, stage: str) -> None:
        self.stages.append(stage)
        if stage == "fit":
            assert self.stages == ["half", "prepared", "fit"]
            inputs = 3 + torch.randn(60, 4)
            classes = torch.from_numpy(np.random.randint(0, 3, 60))
            self.parts = random_split(TensorDataset(inputs, classes), [30, 20, 10])
            random.random()

    def train_dataloader(self) -> Any:
        return DataLoader(self.parts[0], self.batch_size, shuffle=True, num_workers=0)

    def val_dataloader(self) -> Any:
        return DataLoader(self.parts[1], 7)

    def test_dataloader(self) -> Any:
        assert self.stages[-1] == "test"
        return DataLoader(self.parts[2], 7)
