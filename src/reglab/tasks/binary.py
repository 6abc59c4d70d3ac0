"""Binary classification: one logit."""

import torch
from torch import Tensor

from reglab.tasks.answers import Answers, by_column
from reglab.tasks.labels import Labels


class Binary(Labels):
    """Two classes: outputs ``[..., rows, 1]`` or ``[..., rows]``, targets 0 or 1, float ``[rows]``."""

    name = "binary"
    classes = True
    reads = "classes"

    def probabilities(self, outputs: Tensor) -> Tensor:
        logits = outputs.reshape(len(outputs))
        return torch.stack([(-logits).sigmoid(), logits.sigmoid()], dim=1)

    def answers(self, aligned: Tensor, targets: Tensor) -> Answers:
        columns = (each.unsqueeze(-1) for each in (aligned, targets == 1, aligned > 0))
        return by_column(*columns)

    def wrong_targets(self, targets: Tensor, index: Tensor, outputs: int, key: Tensor) -> Tensor:
        """Return the other class."""
        return 1 - targets
