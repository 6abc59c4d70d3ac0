"""Poisson regression: counts, by the logarithm of their rate."""

from collections.abc import Sequence

import torch
from torch import Tensor

from reglab.tasks.elementwise import Elementwise
from reglab.tasks.explained import Explained


def deviances(log_rates: Tensor, counts: Tensor) -> Tensor:
    """Return ``2 * (y * log(y / rate) - y + rate)``, elementwise."""
    return 2 * (torch.xlogy(counts, counts) - counts * log_rates - counts + log_rates.exp())


class Poisson(Elementwise, Explained):
    """The deviance of counts, mean over columns: outputs are log-rates, ``[..., rows]`` or
    ``[..., rows, columns]``, targets >= 0 in the same shape.

    Half its gradient is that of the Poisson negative log-likelihood.

    Source:
        McCullagh & Nelder (1989), Generalized linear models.
    """

    name = "poisson"

    def losses(self, aligned: Tensor, targets: Tensor) -> Tensor:
        losses = deviances(aligned, targets.to(aligned.dtype).expand(aligned.shape))
        return losses.mean(-1) if targets.dim() == 2 else losses

    def quantities(self, outputs: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        found = super().quantities(outputs.exp(), names)
        return {name.replace("prediction", "rate", 1): rates for name, rates in found.items()}

    def statistics(self, aligned: Tensor, targets: Tensor) -> Tensor:
        losses = deviances(aligned, targets.to(aligned.dtype))
        return losses.unsqueeze(0) if targets.dim() == 1 else losses.movedim(-1, 0)

    def constant_losses(self, columns: Tensor) -> Tensor:
        rates = columns.mean(0, keepdim=True)
        return deviances(rates.clamp(min=torch.finfo(rates.dtype).tiny).log(), columns).mT

    def constant(self, targets: Tensor, outputs: int) -> Tensor:
        counts = targets.reshape(len(targets), -1).to(torch.get_default_dtype()).mean(0)
        return counts.clamp(min=0.5 / len(targets)).log().expand(outputs)  # a column of zeros: half a count

    def check_targets(self, values: Tensor) -> str:
        return "" if bool((values >= 0).all()) else "counts must be >= 0"
