"""A step traced once into a graph of tensor operations, which runs as it is, or compiled."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

_log = logging.getLogger(__name__)


class Graph:
    """Runs ``function(*arguments)``, which may change its tensors in place and returns one tensor, from a trace.

    It is traced at the first call, on copies; later calls must pass tensors of the same shapes. compiled: by
    ``torch.compile``; where that fails, one line says so and the trace runs as it is.
    """

    def __init__(self, function: Callable[..., Tensor], arguments: tuple[Any, ...], compiled: bool) -> None:
        leaves, self._shape = pytree.tree_flatten(arguments)
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        tensors = [leaves[place] for place in self._places]
        with torch.no_grad(), _quiet():
            traced = make_fx(self._flattened(function))(*_copies(tensors))
            self.peak = peak(traced)
            self._run: Callable[..., Tensor] = _compile(traced, tensors) if compiled else traced

    def __call__(self, *arguments: Any) -> Tensor:
        with torch.no_grad():
            leaves = pytree.tree_leaves(arguments)
            return self._run(*[leaves[place] for place in self._places])

    def _flattened(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def flat_function(*tensors: Tensor) -> Tensor:
            leaves = list(self._leaves)
            for place, tensor in zip(self._places, tensors, strict=True):
                leaves[place] = tensor
            return function(*pytree.tree_unflatten(leaves, self._shape))

        return flat_function


def peak(traced: GraphModule) -> int:
    """Return the most bytes that the results of the trace's operations take at once, each freed after its last use."""
    last: dict[Node, Node] = {}
    for node in traced.graph.nodes:
        for source in node.all_input_nodes:
            last[source] = node
    ends: dict[Node, list[Node]] = {}
    for node, end in last.items():
        ends.setdefault(end, []).append(node)
    held = most = 0
    for node in traced.graph.nodes:
        if node.op == "call_function":
            held += _bytes(node)
            most = max(most, held)
        held -= sum(_bytes(source) for source in ends.get(node, []) if source.op == "call_function")
    return most


def _bytes(node: Node) -> int:
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    return sum(each.nbytes for each in values if isinstance(each, Tensor))


def _compile(traced: Callable[..., Tensor], tensors: list[Tensor]) -> Callable[..., Tensor]:
    compiled = torch.compile(traced, fullgraph=True, dynamic=False)
    try:
        compiled(*_copies(tensors))
    except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and training can go on without
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        _log.warning("torch.compile failed (%s); training goes on without it", reason[:200])
        return traced
    return compiled


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # What torch says of itself while it traces and compiles is not the user's doing.
        warnings.simplefilter("ignore")
        yield
