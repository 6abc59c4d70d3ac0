"""Norms of a network as a product of layers: spectral, Frobenius and path norms."""

import operator
from typing import Literal

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, vmap

from reglab.core.errors import UserError
from reglab.measures.evaluate import evaluation_mode
from reglab.measures.matrices import TINY, spectral_norms, sum_of_logs, wide
from reglab.measures.measure import Measure, Measured, Need

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PASSED = (nn.ReLU, nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_FUNCTIONS = (torch.flatten, torch.relu, nn.functional.relu, operator.add, torch.add)
_METHODS = ("flatten", "relu", "add")


class Norms(Measure):
    """Norms by which bounds on the generalization gap measure a network's capacity.

    Over the weight matrices ``W`` (a convolution as ``[outputs, inputs x kernel]``), with ``W0``
    before training, spectral norm ``s`` and Frobenius norm ``f``:

    - ``norms/log_spectral_product``: ``sum log s``; ``norms/log_frobenius_product``: ``sum log f``
    - ``norms/stable_rank_sum``: ``sum f(W)^2 / s^2``
    - ``norms/distance_over_spectral``: ``sum f(W - W0)^2 / s^2``
    - ``norms/log_spectral_bound``: ``2 sum log s + log(sum f(W)^2 / s^2)``
    - ``norms/log_distance_bound``: ``2 sum log s + log(sum f(W - W0)^2 / s^2)``
    - ``norms/path``, with ``path``: ``sqrt(sum over paths from an input or a bias to an output of the
      product of their squared weights)``

    Products are recorded as logarithms, which rank as they do and do not overflow; a norm of 0 counts
    as 1e-38. Spectral norms are by power iteration, see ``Spectrum``.

    Args:
        path: Measure the path norm, too. The model then is made of linear layers, convolutions,
            ReLU, flattening, dropout and sums alone.
        every: See ``Measure``.

    Raises:
        ValueError: Where ``path`` is neither true nor false.

    Source:
        Neyshabur, Tomioka & Srebro (2015), Norm-based capacity control in neural networks (path
        norm); Neyshabur, Bhojanapalli & Srebro (2018), A PAC-Bayesian approach to
        spectrally-normalized margin bounds; Jiang et al. (2020), Fantastic generalization measures
        and where to find them.
    """

    needs = frozenset[Need]({"weights", "function"})
    charts = ("norms/log_spectral_product", "norms/path")

    def __init__(self, path: bool = False, every: int | Literal["end"] | None = None) -> None:
        super().__init__(every)
        if not isinstance(path, bool):
            raise ValueError(f"path={path} must be true or false")
        self.path = path

    def check_model(self, model: nn.Module) -> None:
        if self.path:
            check_paths(model)

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        metrics = {"norms/path": path_norm(of)} if self.path else {}
        spectral = spectral_norms(of, state)
        if not spectral:
            return metrics
        frobenius, ranks, distances = [], [], []
        for name, norm in spectral.items():
            weight, initial = wide(of.weights[name]), wide(of.initial[name]).to(of.weights[name].device)
            squared = norm.double().square().clamp(min=TINY)
            frobenius.append(weight.flatten(1).norm(dim=1))
            ranks.append(frobenius[-1].double().square() / squared)
            distances.append((weight - initial).flatten(1).double().square().sum(1) / squared)
        product = sum_of_logs(list(spectral.values()))
        rank, distance = torch.stack(ranks).sum(0), torch.stack(distances).sum(0)
        return metrics | {
            "norms/log_spectral_product": product,
            "norms/log_frobenius_product": sum_of_logs(frobenius),
            "norms/stable_rank_sum": rank,
            "norms/distance_over_spectral": distance,
            "norms/log_spectral_bound": 2 * product + rank.clamp(min=TINY).log(),
            "norms/log_distance_bound": 2 * product + distance.clamp(min=TINY).log(),
        }


def path_norm(of: Measured) -> Tensor:
    """Return the path norm, ``[members]``: the root of the summed outputs for an input of ones, at
    squared weights and biases.

    Args:
        of: The models.

    Raises:
        UserError: Where a model has other parts than those whose paths these outputs sum over.
    """
    check_paths(of.model)
    ones = torch.ones_like(of.inputs("train", torch.zeros(1, dtype=torch.int64))[0], dtype=torch.float64)

    def total(state: dict[str, Tensor]) -> Tensor:
        outputs: Tensor = functional_call(of.model, state, (ones,))
        return outputs.sum()

    squares = {name: value.detach().double().square() for name, value in of.parameters.items()}
    with torch.no_grad(), evaluation_mode(of.model):
        return vmap(total)(squares).sqrt()


def check_paths(model: nn.Module) -> None:
    """Raise UserError where a model has other parts than those whose paths ``path_norm`` sums over."""
    frozen = (f"the frozen parameter {name}" for name, each in model.named_parameters() if not each.requires_grad)
    unfit = _unfit(model) or next(frozen, "")
    if unfit:
        raise UserError(
            "measure.norms.path=true sums over the paths of linear layers, convolutions, ReLU, flattening, dropout "
            f"and sums, and this model has {unfit}: set measure.norms.path=false"
        )


def _unfit(model: nn.Module) -> str:
    """Return the first part of a model that no path norm is defined for here; empty if there is none."""
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception as error:  # noqa: BLE001 - whatever a forward pass does with a placeholder in place of a tensor
        return f"a forward pass that cannot be traced ({type(error).__name__})"
    for node in graph.nodes:
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            if not isinstance(module, (*_LAYERS, *_PASSED)):
                return type(module).__name__
        elif node.op == "call_function" and node.target not in _FUNCTIONS:
            return getattr(node.target, "__name__", str(node.target))
        elif node.op == "call_method" and node.target not in _METHODS:
            return str(node.target)
        elif node.op == "get_attr":
            return f"the parameter {node.target} outside a layer"
    return ""
