"""Classification: one of several classes."""

import torch
from torch import Tensor
from torch.nn import functional

from reglab.rng import counter_rng
from reglab.tasks.answers import Answers, by_column
from reglab.tasks.base import Task
from reglab.tasks.labels import OF_CLASSES


class Classification(Task):
    """Cross entropy ``-log softmax(outputs)[target]``: outputs ``[..., rows, classes]``, targets
    int64 ``[rows]``.
    """

    name = "classification"
    others = OF_CLASSES
    exclusive = True
    classes = True
    integers = True
    reads = "classes"

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        fits = targets.dim() == 1 and outputs.dim() >= 2 and outputs.shape[-2] == targets.shape[0]
        return outputs if fits else None

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        if aligned.dim() == 2:  # no views: their backward pass would cost a tiny step 4%
            return functional.cross_entropy(aligned, targets, reduction="none")
        shape = aligned.shape[:-1]
        flat = functional.cross_entropy(aligned.flatten(0, -2), targets.expand(shape).reshape(-1), reduction="none")
        return flat.reshape(shape)

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        # Cross entropy and decision from one maximum: half the time of the library's over short
        # rows, on a CPU.
        largest = aligned.max(-1, keepdim=True)
        below = aligned - largest.values
        losses = below.exp().sum(-1).log() - below.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return torch.stack([losses, (largest.indices.squeeze(-1) == targets).to(losses.dtype)])

    def decide(self, aligned: Tensor) -> Tensor:
        return aligned.argmax(-1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(-1)

    def answers(self, aligned: Tensor, targets: Tensor) -> Answers:
        classes = torch.arange(aligned.shape[-1], device=aligned.device)
        wanted, predicted = (each.unsqueeze(-1) == classes for each in (targets, aligned.argmax(-1)))
        return by_column(aligned.log_softmax(-1), wanted, predicted)

    def for_metrics(self, aligned: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return aligned.softmax(-1), targets

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        labels = targets.long()
        counts = torch.bincount(labels[labels >= 0], minlength=outputs) + 0.5  # below 0: labels that a loss ignores
        return (counts / counts.sum()).log()

    def uniform_losses(self, outputs: Tensor) -> Tensor:
        return -functional.log_softmax(outputs, dim=1).mean(dim=1)

    def wrong_targets(self, targets: Tensor, index: Tensor, outputs: int, key: Tensor) -> Tensor:
        """Return another class, uniformly (symmetric noise)."""
        drawn = counter_rng.uniform(key, index).double()
        return (targets + 1 + (drawn * (outputs - 1)).long()) % outputs
