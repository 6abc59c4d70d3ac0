"""Data sets as users write them."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

GENERATOR = torch.Generator().manual_seed(0)
VALUES = torch.randn(90, 2, 3, 4, generator=GENERATOR)
CLASSES = (VALUES.mean((1, 2, 3)) > 0).long()


class Pairs(Dataset[Any]):
    """Inputs [2, 3, 4] and one of two classes."""

    def __init__(self, first: int = 0, rows: int = 90) -> None:
        self.first, self.rows = first, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, number: int) -> Any:
        return VALUES[self.first + number], int(CLASSES[self.first + number])


class Splits(Pairs):
    """With an argument that has the name of one of reglab's options."""

    def __init__(self, split: str) -> None:
        super().__init__(rows={"whole": 90, "half": 45}[split])


class Mappings(Pairs):
    """As Hugging Face's: a mapping of columns."""

    def __getitem__(self, number: int) -> dict[str, Any]:
        inputs, target = super().__getitem__(number)
        return {"id": number, "pixels": inputs.tolist(), "label": ("no", "yes")[target]}


class Examples(Pairs):
    """A picture and five numbers, as a mapping; one picture may have another shape."""

    def __init__(self, rotated: int = -1) -> None:
        super().__init__()
        self.rotated = rotated
        self.meta = torch.randn(90, 5, generator=torch.Generator().manual_seed(1)) * 3 + 1

    def __getitem__(self, number: int) -> dict[str, Any]:
        image, target = super().__getitem__(number)
        image = image.transpose(0, 1) if number == self.rotated else image
        return {"id": torch.tensor([number]), "image": image, "meta": self.meta[number], "label": target}


class Masks(Pairs):
    """A class at each pixel, of which some do not count."""

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        pixels = VALUES[self.first + number]
        return pixels, (pixels.sum(0) > 0).long().masked_fill(pixels[0] > 1.5, -100)


class Bytes(Pairs):
    """Pictures of PIL and a quantity."""

    def __getitem__(self, number: int) -> Any:
        pixels = (VALUES[number, 0].clamp(-2, 2) * 60 + 128).to(torch.uint8).numpy()
        return Image.fromarray(pixels), float(VALUES[number].sum())


class Ids(Pairs):
    """Tokens, of which one tells the class."""

    def __getitem__(self, number: int) -> tuple[Tensor, bool]:
        return torch.tensor([5 + number % 7, 1 + int(CLASSES[number]), 4]), bool(CLASSES[number])


class Restless(Pairs):
    """A random transform in the items."""

    def __getitem__(self, number: int) -> Any:
        inputs, target = super().__getitem__(number)
        return inputs + torch.rand(1), target


class Broken(Pairs):
    """One item cannot be read, another has another shape, or none is what it must be."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def __getitem__(self, number: int) -> Any:
        inputs, target = super().__getitem__(number)
        if self.how == "text":
            return "a sentence", target
        if self.how == "alone":
            return inputs
        if self.how == "nan" and number == 7:
            return inputs * np.nan, target
        if number == 70 and self.how == "gone":
            raise OSError("the disk is gone")
        return (inputs[:1] if number == 70 and self.how == "shape" else inputs), target


class Endless(IterableDataset[Any]):
    """Items without an end."""

    def __iter__(self) -> Any:
        number = 0
        while True:
            yield VALUES[number % 90], int(CLASSES[number % 90])
            number += 1


class Stream(IterableDataset[Any]):
    """Items of another class, one after the other."""

    def __init__(self, of: str = "Pairs", first: int = 0, rows: int = 90) -> None:
        self.items, self.rows = globals()[of](), range(first, first + rows)

    def __iter__(self) -> Any:
        return (self.items[number] for number in self.rows)


class Once:
    """An iterator, which is read up after one reading."""

    def __init__(self) -> None:
        self.items = iter(Stream())

    def __iter__(self) -> Any:
        return self.items


class Shuffled(Pairs, IterableDataset[Any]):
    """Items in an order that is drawn anew."""

    def __iter__(self) -> Any:
        return (self[number] for number in torch.randperm(90).tolist())


class Neither:
    """Items that can be neither counted nor iterated."""


def function() -> Pairs:
    """No class."""
    return Pairs()
