"""A class at each position of a sequence: next token, or sequence labelling."""

from torch import Tensor
from torch.nn import functional

from reglab.tasks.positions import IGNORED, Positions, log_shares, over_counted


class NextToken(Positions):
    """Outputs ``[..., rows, length, classes]``, targets int64 ``[rows, length]``, -100 where
    padded.

    For the next token the targets are the inputs, moved by one. Each sequence counts alike,
    whatever its length; the perplexity is the exponential of this loss.
    """

    name = "next_token"
    also = ("perplexity",)
    from_statistics = ("accuracy", "perplexity")

    def fitting(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        fits = targets.dim() == 2 and outputs.dim() >= 3 and outputs.shape[-3:-1] == targets.shape
        return outputs if fits else None

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        shape = aligned.shape[:-1]
        flat = targets.expand(shape).reshape(-1)
        losses = functional.cross_entropy(aligned.flatten(0, -2), flat, ignore_index=IGNORED, reduction="none")
        return over_counted(losses.reshape(shape), targets)

    def decide(self, aligned: Tensor) -> Tensor:
        return aligned.argmax(-1)

    def for_metrics(self, aligned: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return aligned.softmax(-1).movedim(-1, 1), targets

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        return log_shares(targets, outputs).expand(targets.shape[1], outputs)
