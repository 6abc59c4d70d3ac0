"""Modules in the manner of real projects, and their data: a U-Net, a two-tower contrastive model, a small GPT."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset


class Made(Dataset[Any]):
    """Items of a kind, made by their number."""

    def __init__(self, kind: str, rows: int, first: int) -> None:
        self.kind, self.rows, self.first = kind, rows, first

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Any:
        generator = torch.Generator().manual_seed(self.first + row)
        return getattr(self, self.kind)(generator)

    @staticmethod
    def images(generator: torch.Generator) -> dict[str, Tensor]:
        mask = torch.zeros(8, 8, dtype=torch.long)
        top, left = torch.randint(0, 5, (2,), generator=generator).tolist()
        mask[top : top + 4, left : left + 4] = 1
        noise = torch.randn(1, 8, 8, generator=generator)
        return {"image": mask[None].float() + 0.5 * noise, "mask": mask}

    @staticmethod
    def pairs(generator: torch.Generator) -> dict[str, Tensor]:
        shared = torch.randn(4, generator=generator)
        left, right = (torch.randn(6, generator=generator) for _ in range(2))
        left[:4] += 2 * shared
        right[:4] += 2 * shared
        return {"left": left, "right": right}

    @staticmethod
    def texts(generator: torch.Generator) -> Tensor:
        """A sentence that counts up in steps, of any length."""
        begin, step, length = torch.randint(1, 6, (3,), generator=generator).tolist()
        return (begin + step * torch.arange(length + 4)) % 15 + 1


def padded(texts: list[Tensor]) -> Tensor:
    """Return sentences as one tensor, 0 where they have ended."""
    return nn.utils.rnn.pad_sequence(texts, batch_first=True)


class MadeData(pl.LightningDataModule):
    def __init__(self, kind: str, batch_size: int = 4) -> None:
        super().__init__()
        self.kind, self.batch_size = kind, batch_size

    def loader(self, rows: int, first: int, *, shuffle: bool) -> DataLoader[Any]:
        collate = padded if self.kind == "texts" else None
        return DataLoader(Made(self.kind, rows, first), self.batch_size, shuffle=shuffle, collate_fn=collate)

    def train_dataloader(self) -> Any:
        return self.loader(24, 0, shuffle=True)

    def val_dataloader(self) -> Any:
        return self.loader(44, 1000, shuffle=False)

    def test_dataloader(self) -> Any:
        return self.loader(16, 2000, shuffle=False)


class UNet(pl.LightningModule):
    """Segments images: a step down, a step up, a skip connection; groups of parameters with rates of their own."""

    def __init__(self, width: int = 4, lr: float = 1e-2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.down = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.head = nn.Conv2d(2 * width, 2, 1)
        self.drop = nn.Dropout2d(0.1)

    def forward(self, image: Tensor) -> Tensor:
        skipped = self.down(image)
        outputs: Tensor = self.head(torch.cat([skipped, self.up(self.drop(self.middle(skipped)))], 1))
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = functional.cross_entropy(self(batch["image"]), batch["mask"])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        outputs = self(batch["image"])
        predicted = outputs.argmax(1)
        both, either = (predicted & batch["mask"]).sum(), (predicted | batch["mask"]).sum()
        self.log_dict({"val_loss": functional.cross_entropy(outputs, batch["mask"]), "val_iou": both / either})

    def configure_optimizers(self) -> Any:
        given: Any = self.hparams
        groups = [{"params": self.down.parameters(), "lr": given.lr / 10}, {"params": self.middle.parameters()},
                  {"params": [*self.up.parameters(), *self.head.parameters()]}]  # fmt: skip
        optimizer = torch.optim.AdamW(groups, lr=given.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [given.lr / 10, given.lr, given.lr], total_steps=24)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class TwoTowers(pl.LightningModule):
    """Learns to tell which two belong together, among those of a batch; it has no outputs that meet targets."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 4)) for _ in range(2))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def similarity(self, batch: Any) -> Tensor:
        left, right = self.left(batch["left"]), self.right(batch["right"])
        return self.scale.exp() * functional.normalize(left, dim=1) @ functional.normalize(right, dim=1).T

    def shared_step(self, batch: Any, stage: str) -> Tensor:
        similarity = self.similarity(batch)
        own = torch.arange(len(similarity))
        loss = (functional.cross_entropy(similarity, own) + functional.cross_entropy(similarity.T, own)) / 2
        self.log(f"{stage}_loss", loss, on_step=stage == "train", on_epoch=True, batch_size=len(similarity))
        self.log(f"{stage}_top1", (similarity.argmax(1) == own).float().mean(), batch_size=len(similarity))
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.shared_step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.shared_step(batch, "val")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)]


class GPT(pl.LightningModule):
    """Predicts the next number of a sentence; the embedding is tied to the head, padding is left out."""

    def __init__(self, width: int = 8, lr: float = 1e-2) -> None:
        super().__init__()
        self.lr = lr
        self.tokens, self.places = nn.Embedding(17, width), nn.Embedding(16, width)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, 17, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.tokens(ids) + self.places(torch.arange(length))
        outputs: Tensor = self.head(self.blocks(hidden, mask=mask, is_causal=True))
        return outputs

    def loss(self, batch: Tensor) -> Tensor:
        outputs = self(batch[:, :-1])
        return functional.cross_entropy(outputs.transpose(1, 2), batch[:, 1:], ignore_index=0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = self.loss(batch)
        self.log("valid/loss", loss)
        self.log("valid/perplexity", loss.exp())

    def configure_optimizers(self) -> Any:
        decayed = [weight for weight in self.parameters() if weight.dim() > 1]
        others = [weight for weight in self.parameters() if weight.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 8))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warm, "interval": "step"}}
