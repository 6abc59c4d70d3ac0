"""The models of large_models.py.

ResNet-50, and a transformer of BERT's size with and without its dropout.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

CLASSES, SIDE, LENGTH, WORDS, WIDTH = 2, 64, 32, 30522, 768


class Case(NamedTuple):
    """model: makes it. inputs: makes so many rows. source: says which package it comes from."""

    model: Callable[[], nn.Module]
    inputs: Callable[[int], Tensor]
    source: Callable[[], str]


def works(package: str) -> bool:
    """Whether an optional package is installed and can be imported."""
    try:
        importlib.import_module(package)
    except (ImportError, RuntimeError):  # RuntimeError: timm's torchvision, built for another torch
        return False
    return True


class Bottleneck(nn.Module):
    """A residual block of three convolutions. Source: He et al. (2016), Deep residual learning."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            *convolution(inputs, width, 1), nn.ReLU(), *convolution(width, width, 3, stride), nn.ReLU(),
            *convolution(width, outputs, 1),
        )  # fmt: skip
        plain = inputs == outputs and stride == 1
        self.beside = nn.Identity() if plain else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.relu(self.body(inputs) + self.beside(inputs))


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [layer, nn.BatchNorm2d(outputs)]


def resnet50() -> nn.Module:
    if works("timm"):
        from reglab.models import Timm

        return Timm("resnet50", in_chans=3, num_classes=CLASSES)
    layers: list[nn.Module] = [*convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, 64 << stage, 2 if stage and not block else 1))
            inputs = 256 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))


class PlainTransformer(nn.Module):
    """Twelve encoder layers on tokens, of BERT-base's sizes, the mean over positions into a linear head."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Parameter(torch.randn(512, WIDTH) / 50)
        layer = nn.TransformerEncoderLayer(WIDTH, 12, 4 * WIDTH, dropout, "gelu", batch_first=True)
        self.body = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(self.words(inputs) + self.places[: inputs.shape[1]])
        return self.head(hidden.mean(1))


def transformer(dropout: float) -> nn.Module:
    if not works("transformers"):
        return PlainTransformer(dropout)
    from reglab.models import Transformers

    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return Transformers("bert", input_shape=(LENGTH,), outputs=CLASSES, **rates)


def images(rows: int) -> Tensor:
    return torch.randn(rows, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def tokens(rows: int) -> Tensor:
    return torch.randint(1, WORDS, (rows, LENGTH), generator=torch.Generator().manual_seed(0))


def of(package: str) -> Callable[[], str]:
    return lambda: f"{package} {importlib.import_module(package).__version__}" if works(package) else "plain torch"


CASES = {
    "resnet50": Case(resnet50, images, of("timm")),
    "transformer": Case(lambda: transformer(0.0), tokens, of("transformers")),
    "transformer with dropout 0.1": Case(lambda: transformer(0.1), tokens, of("transformers")),
}
