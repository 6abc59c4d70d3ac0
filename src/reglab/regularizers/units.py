"""Incoming weights of each unit, and projection of their norm."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList

from reglab.regularizers.parameter_kinds import PARAMETRIZED, kinds_of

Total = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Incoming:
    """How the incoming weights of units lie in a weight.

    Args:
        groups: None where each entry of the first axis is a unit (Linear, Conv, rows of an
            Embedding, each gate of each unit of an RNN, in_proj_weight). Else the first axis is the
            inputs, in so many groups of ``inputs``, and the second is the units of each group, as
            in ConvTranspose.
    """

    groups: int | None = None
    inputs: int = 0

    def capped(self, weight: Tensor, limit: Tensor, first: int, total: Total) -> Tensor:
        """Return ``weight`` with each unit's incoming weights projected onto the ball of radius
        ``limit``.

        Args:
            first: The row of the whole weight that ``weight`` begins with.
            total: Adds up over all parts of the weight.
        """
        if self.groups is None:
            return cap_rows(weight, limit)
        group = torch.arange(first, first + len(weight), device=weight.device) // self.inputs
        squares = weight.square().unsqueeze(-1).flatten(2).sum(2)
        units = weight.new_zeros(self.groups, weight.shape[1])
        norms = total(units.index_add(0, group, squares)).sqrt()
        scale = _shrinking(norms, limit).index_select(0, group)
        return weight * scale.reshape(*scale.shape, *[1] * (weight.ndim - 2))


ROWS = Incoming()


def cap_rows(weight: Tensor, limit: Tensor) -> Tensor:
    """Return ``weight`` [units, ...] with each unit's incoming weights projected onto the ball of
    radius ``limit``.

    Args:
        weight: ``[units, ...]``.
        limit: 0-dim, the largest norm.

    Returns:
        Same shape and dtype as ``weight``.

    Example:
        >>> cap_rows(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), torch.tensor(1.0))
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    scale = _shrinking(norms, limit)
    capped: Tensor = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return capped


def _shrinking(norms: Tensor, limit: Tensor) -> Tensor:
    return (limit.to(norms.dtype) / norms).clamp(max=1).nan_to_num(nan=1.0)


def incoming(model: nn.Module) -> dict[str, tuple[str, Incoming] | None]:
    """Return for each weight of ``model`` which parameter holds its units' norms, and how units lie
    in it.

    It is the weight itself, but under weight normalization, ``w = g * v / ||v||``, the magnitude
    ``g``. None where another parametrization, or a norm over other axes, makes of what is trained
    what the units are given.
    """
    modules, by_weight = dict(model.named_modules()), {}
    for name, kind in kinds_of(model).items():
        if kind == "weight":
            path, _, local_name = name.rpartition(".")
            chain = modules[path]
            if isinstance(chain, ParametrizationList):
                owner = modules[path.rpartition(f"{PARAMETRIZED}.")[0].removesuffix(".")]
                by_row = len(chain) == 1 and isinstance(chain[0], _WeightNorm) and chain[0].dim == 0
                plain = by_row and local_name == "original1" and _lying(owner) == ROWS
                by_weight[name] = (f"{path}.original0", ROWS) if plain else None
            else:
                normed = local_name.endswith("_v") and f"{local_name.removesuffix('_v')}_g" in chain._parameters
                by_weight[name] = None if normed or local_name.endswith("_orig") else (name, _lying(chain))
    return by_weight


def _lying(layer: nn.Module) -> Incoming:
    if isinstance(layer, _ConvTransposeNd):
        return Incoming(layer.groups, layer.in_channels // layer.groups)
    if type(layer).__name__ == "Conv1D" and hasattr(layer, "nf"):  # of transformers: a Linear, transposed
        return Incoming(1, layer.get_parameter("weight").shape[0])
    return ROWS
