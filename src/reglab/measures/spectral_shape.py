"""Measures of all singular values of a weight matrix: effective rank and power-law exponent."""

from typing import Literal

import torch
from torch import Tensor

from reglab.measures.measure import Measure, Measured

FEWEST = 50
"""Eigenvalues below which no power law is fitted."""


class SpectralShape(Measure):
    """Effective rank and power-law exponent of each weight matrix, from all its singular values.

    - ``weights/<parameter>/effective_rank``: see ``effective_rank``
    - ``weights/<parameter>/alpha``: see ``power_law_exponent``, of the eigenvalues of
      ``W^T W / N``, the squared singular values; only of matrices with at least 50 rows and
      columns, and NaN where fewer than 50 eigenvalues are not zero
    - ``weights/all/...``: the mean over these matrices

    A convolution counts as a matrix ``[outputs, inputs x kernel]``, where WeightWatcher takes one
    matrix for each position of the kernel. The exponent does not depend on ``N``.

    Args:
        every: As for ``Measure``; ``end`` since it takes a full decomposition of each matrix.
    """

    needs = frozenset({"whole weights"})
    charts = ("weights/all/effective_rank", "weights/all/alpha")

    def __init__(self, every: int | Literal["end"] | None = "end") -> None:
        super().__init__(every)

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        each: dict[str, dict[str, Tensor]] = {"effective_rank": {}, "alpha": {}}
        for name, weight in of.weights.items():
            if weight.dim() <= 2:  # the members' axis is the first
                continue
            matrices = of.whole(name).detach().flatten(2)
            if matrices.dtype in (torch.float16, torch.bfloat16):
                matrices = matrices.float()
            singular_values = _singular_values(matrices)
            each["effective_rank"][name] = effective_rank(singular_values)
            if singular_values.shape[1] >= FEWEST:
                smallest = max(matrices.shape[1:]) * torch.finfo(matrices.dtype).eps
                fits = [power_law_exponent(one[one > smallest * one[0]].square()) for one in singular_values]
                each["alpha"][name] = torch.stack(fits)
        metrics = {
            f"weights/all/{kind}": torch.stack(list(found.values())).mean(0) for kind, found in each.items() if found
        }
        if of.per_layer:
            metrics |= {f"weights/{name}/{kind}": one for kind, found in each.items() for name, one in found.items()}
        return metrics


def effective_rank(singular_values: Tensor) -> Tensor:
    """Return ``exp(-sum p log p)`` with ``p = s / sum s``: k where k singular values are equal and the
    others zero; 0 where all are zero.

    Args:
        singular_values: ``[..., count]``, >= 0.

    Example:
        >>> round(float(effective_rank(torch.tensor([2.0, 2.0, 2.0, 0.0]))), 4)
        3.0

    Source:
        Roy & Vetterli (2007), The effective rank: a measure of effective dimensionality.
    """
    values = singular_values.double()
    total = values.sum(-1, keepdim=True)
    ranks: Tensor = torch.special.entr(values / total).sum(-1).exp()
    return torch.where(total.squeeze(-1) == 0, 0.0, ranks)


def power_law_exponent(eigenvalues: Tensor) -> Tensor:
    """Return ``alpha`` of the density ``~ x^-alpha`` of all eigenvalues from ``xmin`` on, by maximum
    likelihood, ``alpha = 1 + n / sum log(x / xmin)``; ``xmin`` is the eigenvalue that makes the
    largest distance between the two distribution functions (Kolmogorov-Smirnov) smallest.

    Args:
        eigenvalues: > 0, ``[count]``, in any order.

    Returns:
        A 0-dim tensor; NaN for fewer than 50 eigenvalues, or where all are equal.

    Source:
        Clauset, Shalizi & Newman (2009), Power-law distributions in empirical data; Martin, Peng &
        Mahoney (2021), Predicting trends in the quality of state-of-the-art neural networks
        without access to training or testing data (``alpha`` of WeightWatcher).
    """
    logs = eigenvalues.double().log().sort().values
    if len(logs) < FEWEST:
        return logs.new_tensor(torch.nan)
    distances, exponents = [], []
    for first in range(len(logs) - 1):
        above = logs[first:] - logs[first]
        steepness = len(above) / above.sum()
        share = torch.arange(len(above), device=logs.device) / len(above)
        distances.append((1 - (-steepness * above).exp() - share).abs().amax())
        exponents.append(1 + steepness)
    alpha = torch.stack(exponents)[torch.stack(distances).nan_to_num(torch.inf).argmin()]
    return alpha.nan_to_num(posinf=torch.nan)  # all are equal


def _singular_values(matrices: Tensor) -> Tensor:
    """Return singular values in falling order, ``[members, count]``; NaN where weights are not finite."""
    finite = matrices.isfinite().all(2).all(1)
    values: Tensor = torch.linalg.svdvals(torch.where(finite[:, None, None], matrices, 0.0))
    return torch.where(finite[:, None], values, torch.nan)
