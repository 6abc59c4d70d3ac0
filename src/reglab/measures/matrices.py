"""Measures of the weights as matrices: their spectral norm, and how much of them is zero."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from reglab.measures.measure import Measure, Measured

_COLUMNS = 8  # of the block that is iterated: close singular values do not slow it down
_FIRST = 30  # iterations from random columns; one from those of the last call
TINY = torch.finfo(torch.float32).tiny


class Spectrum(Measure):
    """Spectral norm and stable rank of each weight matrix.

    - ``weights/<parameter>/spectral_norm``: its largest singular value, by block power iteration
      from where the last call ended; from below, within 1% unless weights turn quickly between two
      measurements
    - ``weights/<parameter>/stable_rank``: squared Frobenius norm / squared spectral norm
    - ``weights/all/spectral_norm``: the largest of the layers

    A convolution counts as a matrix ``[outputs, inputs x kernel]``.

    Args:
        every: As for ``Measure``.

    Source:
        Halko, Martinsson & Tropp (2011), Finding structure with randomness, section 4.5 (subspace
        iteration); Rudelson & Vershynin (2007), Sampling from large matrices (stable rank).
    """

    needs = frozenset({"whole weights"})
    charts = ("weights/all/spectral_norm",)

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        norms = spectral_norms(of, state)
        if not norms:
            return {}
        ranks = {name: _squares(of.whole(name)) / norm.square().clamp(min=TINY) for name, norm in norms.items()}
        metrics = {"weights/all/spectral_norm": torch.stack(list(norms.values())).amax(0)}
        if of.per_layer:
            metrics |= {f"weights/{name}/spectral_norm": norm for name, norm in norms.items()}
            metrics |= {f"weights/{name}/stable_rank": rank for name, rank in ranks.items()}
        return metrics


def spectral_norms(of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the spectral norm of each weight of two or more axes, ``[members]``, see ``Spectrum``.

    Args:
        of: With whole weights.
        state: Keeps the iterated columns by the weights' names; changed.
    """
    # The members' axis is the first.
    matrices = {name: _matrix(of.whole(name)) for name, weight in of.weights.items() if weight.dim() > 2}
    return {name: largest_singular_value(matrix, state, name) for name, matrix in matrices.items()}


def sum_of_logs(norms: Sequence[Tensor]) -> Tensor:
    """Return ``sum log norm``, float64 ``[members]``; a norm of 0 counts as the least float32."""
    return torch.stack([norm.double().clamp(min=TINY).log() for norm in norms]).sum(0)


def largest_singular_value(matrices: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """Return the largest singular value of each matrix, from below, ``[members]``; NaN where weights
    are not finite.

    Args:
        matrices: ``[members, rows, columns]``.
        state: Keeps the iterated columns, ``[members, columns, block]``, by ``name``; changed.
        name: Of the matrix.

    Example:
        >>> float(largest_singular_value(torch.tensor([[[3.0, 0.0], [0.0, 1.0]]]), {}, "w"))
        3.0
    """
    width = matrices.shape[2]
    started = name in state
    if not started:
        generator = torch.Generator().manual_seed(0)
        block = torch.randn(width, min(_COLUMNS, *matrices.shape[1:]), generator=generator)
        state[name] = block.to(matrices).expand(len(matrices), -1, -1)
    block = state[name].to(matrices)
    for _ in range(1 if started else _FIRST):
        image = torch.linalg.qr(matrices @ block).Q
        block = (image.mT @ matrices).mT  # twice as fast as matrices.mT @ image
    state[name] = block / torch.linalg.vector_norm(block, dim=1, keepdim=True).clamp(min=TINY)
    wide = block.double()
    products = wide.mT @ wide
    finite = products.isfinite().all(2).all(1)
    products = torch.where(finite[:, None, None], products, 0.0)  # eigvalsh raises for what is not finite
    squared: Tensor = torch.linalg.eigvalsh(products)[:, -1]
    return torch.where(finite, squared.clamp(min=0).sqrt().to(matrices), torch.nan)


class Sparsity(Measure):
    """How concentrated the weights are, and which of their groups are all zero.

    - ``hoyer``: ``(sqrt(n) - l1 / l2) / (sqrt(n) - 1)`` of n weights: 0 where all are of one size, 1
      where a single one is left
    - ``participation``: ``(sum w^2)^2 / (n sum w^4)``, the share of weights that carry the others
    - ``zero_outputs``: share of the first axis (neurons, filters) whose weights are all exactly 0
    - ``zero_inputs``: share of the second axis (input features, input channels)

    As ``weights/<parameter>/...`` of each layer and ``weights/all/...`` of all weights as one vector,
    or of the groups of all layers. All-zero weights: ``hoyer`` 0, ``participation`` 0.

    Args:
        every: As for ``Measure``.

    Source:
        Hoyer (2004), Non-negative matrix factorization with sparseness constraints; Hurley & Rickard
        (2009), Comparing measures of sparsity.
    """

    needs = frozenset({"whole weights"})
    charts = ("weights/all/hoyer", "weights/all/zero_outputs", "weights/all/zero_inputs")

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        metrics: dict[str, Tensor] = {}
        sums: list[Tensor] = []
        size, groups = 0, {"outputs": 0, "inputs": 0}
        zeros: dict[str, list[Tensor]] = {"outputs": [], "inputs": []}
        for name in of.weights:
            weight = wide(of.whole(name))
            own = _moments(weight.flatten(1))
            sums.append(own)
            size += weight[0].numel()
            layer = _concentration(own, weight[0].numel())
            if weight.dim() > 2:
                used = weight != 0
                for kind, kept in (("outputs", 1), ("inputs", 2)):
                    others = [axis for axis in range(1, weight.dim()) if axis != kept]
                    empty = (~used.any(dim=others[0]) if len(others) == 1 else ~used.amax(dim=others)).double()
                    layer[f"zero_{kind}"] = empty.mean(-1)
                    zeros[kind].append(empty.sum(-1))
                    groups[kind] += weight.shape[kept]
            if of.per_layer:
                metrics |= {f"weights/{name}/{key}": value for key, value in layer.items()}
        if not sums:
            return {}
        whole = _concentration(torch.stack(sums).sum(0), size)
        for kind, counts in zeros.items():
            if counts:
                whole[f"zero_{kind}"] = torch.stack(counts).sum(0) / groups[kind]
        return {f"weights/all/{key}": value for key, value in whole.items()} | metrics


class Gradients(Measure):
    """Norm of the mean loss's gradient on fixed training rows, in evaluation mode.

    - ``gradient/all/norm`` and ``gradient/<parameter>/norm``
    - ``gradient/<parameter>/ratio``: the same / the norm of the parameter

    It is the gradient of the data's loss alone, without penalties, at the weights that the run is
    judged by; at a minimum of the training loss it is 0.

    Args:
        rows: Of the probe, evenly spread; all if it has fewer.
        every: As for ``Measure``.

    Raises:
        ValueError: For fewer than one row.
    """

    needs = frozenset({"function"})
    charts = ("gradient/all/norm",)

    def __init__(self, rows: int = 512, every: int | Literal["end"] | None = None) -> None:
        super().__init__(every)
        self.rows = checked_rows(rows)

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        metrics: dict[str, Tensor] = {}
        total: Tensor | float = 0.0
        for name, gradient in mean_gradients(of, spread_rows(of.count("train"), self.rows)).items():
            squares = _squares(gradient)
            total = total + squares
            if of.per_layer:
                metrics[f"gradient/{name}/norm"] = squares.sqrt()
                metrics[f"gradient/{name}/ratio"] = (squares / _squares(of.parameters[name]).clamp(min=TINY)).sqrt()
        return {"gradient/all/norm": torch.as_tensor(total).sqrt()} | metrics

    def row_passes(self, rows: int) -> float:
        return 3.0 * min(self.rows, rows)


def mean_gradients(of: Measured, rows: Tensor) -> dict[str, Tensor]:
    """Return the gradient of the mean loss of some training rows by name, ``[members, *shape]``; 0 by
    parameters that it does not depend on.

    Args:
        of: The models.
        rows: Numbers of the rows.
    """
    parameters = {name: value.detach().requires_grad_() for name, value in of.parameters.items()}
    with torch.enable_grad():
        loss = of.losses("train", rows, parameters).mean(-1).sum()
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, gradients, strict=True))


def spread_rows(count: int, most: int) -> Tensor:
    """Return the numbers of at most ``most`` rows of ``count``, evenly spread, int64.

    Example:
        >>> spread_rows(10, 4).tolist()
        [0, 2, 5, 7]
    """
    return torch.arange(min(count, most)) * count // min(count, most)


def checked_rows(rows: object) -> int:
    """Return ``rows``.

    Raises:
        ValueError: Unless it is an integer >= 1.
    """
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise ValueError(f"rows={rows} must be an integer >= 1")
    return rows


def _matrix(weight: Tensor) -> Tensor:
    return wide(weight).flatten(2)


def wide(weight: Tensor) -> Tensor:
    """Return a detached tensor in at least float32."""
    weight = weight.detach()
    return weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight


def _squares(values: Tensor) -> Tensor:
    return wide(values).flatten(1).square().sum(1)


def _moments(flat: Tensor) -> Tensor:
    """Return the sums of |w|, w^2 and w^4, ``[sums, members]``."""
    squares = flat.square()
    return torch.stack([flat.abs().sum(1), squares.sum(1), squares.square().sum(1)]).double()


def _concentration(sums: Tensor, size: int) -> dict[str, Tensor]:
    l1, squares, fourth = sums
    root = math.sqrt(size)
    tiny = torch.finfo(torch.float64).tiny
    hoyer = (root - l1 / squares.sqrt().clamp(min=tiny)) / max(root - 1, tiny)
    empty = squares == 0
    return {
        "hoyer": torch.where(empty, 0.0, hoyer.clamp(0, 1)) if size > 1 else torch.ones_like(l1),
        "participation": torch.where(empty, 0.0, squares.square() / (size * fourth).clamp(min=tiny)),
    }
