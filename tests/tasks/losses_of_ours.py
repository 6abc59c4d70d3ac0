"""Losses as a user writes them."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def focal(outputs: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    log_shares = functional.log_softmax(outputs, -1).gather(-1, targets[:, None])[:, 0]
    return -((1 - log_shares.exp()) ** gamma) * log_shares


def row_by_row(outputs: Tensor, targets: Tensor) -> Tensor:
    """What no vmap takes: it reads values in Python."""
    losses = [focal(outputs[row : row + 1], targets[row : row + 1])[0] for row in range(len(targets))]
    return torch.stack([loss * (2.0 if float(loss.detach()) > 1 else 1.0) for loss in losses])


def whole_batch(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets) + 0.1 * outputs.mean(0).square().sum()


def signed(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none") - 3


class Focal(nn.Module):
    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return focal(outputs, targets, self.gamma)
