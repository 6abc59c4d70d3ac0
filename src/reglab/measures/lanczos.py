"""Lanczos' method for a symmetric matrix of each member: its outermost eigenvalues, and its diagonal."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Krylov(NamedTuple):
    """What some products with a symmetric matrix ``A`` tell of it.

    Attributes:
        low, high: Its outermost eigenvalues, ``[members]``: the smallest from above, the largest from
            below.
        basis: Orthonormal vectors, ``[members, vectors, size]``; 0 from where the space is exhausted.
        diagonal: Of ``A - P A P``, where ``P`` projects onto what is orthogonal to the basis,
            ``[members, size]``: known exactly.
    """

    low: Tensor
    high: Tensor
    basis: Tensor
    diagonal: Tensor

    def rest(self, vectors: Tensor) -> Tensor:
        """Return ``P vectors``."""
        return vectors - (self.basis.mT @ (self.basis @ vectors.unsqueeze(-1))).squeeze(-1)


def lanczos(times: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> Krylov:
    """Multiply a symmetric matrix of each member again and again.

    Args:
        times: Multiplies vectors ``[members, size]`` by it.
        start: The first vector, ``[members, size]``.
        iterations: At most; exact from ``size`` on.

    Source:
        Golub & Van Loan (2013), Matrix computations, section 10.3 (full reorthogonalization).
    """
    steps = min(iterations, start.shape[1])
    tiny, eps = torch.finfo(start.dtype).tiny, torch.finfo(start.dtype).eps
    basis = [start / start.norm(dim=-1, keepdim=True)]
    projected = start.new_zeros(len(start), steps, steps, dtype=torch.float64)
    diagonal = torch.zeros_like(start)
    for number in range(steps):
        image = times(basis[number])
        diagonal += image * basis[number]
        stacked = torch.stack(basis, 1)  # [members, vectors, size]
        along = (stacked @ image.unsqueeze(-1)).squeeze(-1)
        projected[:, number, number] = along[:, number].double()
        for _ in range(2):  # twice is enough
            image = image - (stacked.mT @ (stacked @ image.unsqueeze(-1))).squeeze(-1)
        norm = image.norm(dim=-1, keepdim=True)
        scale = along.abs().amax(-1, keepdim=True).clamp(min=tiny)
        alive = norm > 10 * eps * scale  # else its space is exhausted
        if number + 1 == steps:  # what is left of the last image is all that leaves the space
            diagonal += torch.where(alive, image, 0.0) * basis[number]
            break
        beta = torch.where(alive, norm, 0.0)
        projected[:, number, number + 1] = projected[:, number + 1, number] = beta.squeeze(-1).double()
        basis.append(torch.where(alive, image / norm.clamp(min=tiny), 0.0))
    vectors = torch.stack(basis, 1)
    low, high = _ends(projected, vectors, start.dtype)
    return Krylov(low, high, vectors, diagonal)


def _ends(projected: Tensor, basis: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(projected)
    # Where the space was exhausted, vectors are 0, and so are eigenvalues that mean nothing.
    real = (basis.norm(dim=-1) > 0).double()
    weight = (vectors.square() * real.unsqueeze(-1)).sum(1) > 0.5
    low = torch.where(weight, values, torch.inf).amin(-1)
    high = torch.where(weight, values, -torch.inf).amax(-1)
    return low.to(dtype), high.to(dtype)
