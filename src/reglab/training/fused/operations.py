"""FX graphs as plain values: serialize a traced graph and rebuild it in another process.

``torch.fx`` pickles a graph as Python code and traces that again, which would make each ``arange``
a constant.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree


class Operator(NamedTuple):
    """``torch.ops.<namespace>.<name>.<overload>``."""

    namespace: str
    name: str
    overload: str


class Result(NamedTuple):
    """The result of an operation, by its name."""

    name: str


class Operation(NamedTuple):
    """A node of a graph: in ``arguments``, a ``Result`` stands for another node."""

    op: str
    name: str
    target: Any
    arguments: tuple[Any, ...]
    named: dict[str, Any]


class Layout(NamedTuple):
    """Shape, stride, dtype and device of a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: str


def operations(graph: Graph) -> list[Operation]:
    """Return the operations of ``graph``.

    Raises:
        ValueError: For other nodes, such as nested graphs.
    """
    result = []
    for node in graph.nodes:
        if node.op not in ("placeholder", "call_function", "output"):
            raise ValueError(f"the step contains a {node.op} node, {node.target}, which cannot be compiled")
        target = node.target
        if isinstance(target, torch._ops.OpOverload):
            namespace, name = target._schema.name.split("::")
            target = Operator(namespace, name, target._overloadname)
        values = pytree.tree_map_only(Node, lambda other: Result(other.name), (node.args, dict(node.kwargs)))
        result.append(Operation(node.op, node.name, target, *values))
    return result


def module_of(operations: Sequence[Operation]) -> GraphModule:
    """Return the graph of these operations.

    Raises:
        AttributeError: For an operator that this process does not have.
    """
    graph = Graph()
    known: dict[str, Node] = {}
    for op, name, target, arguments, named in operations:
        if isinstance(target, Operator):
            target = getattr(getattr(getattr(torch.ops, target.namespace), target.name), target.overload)
        values = pytree.tree_map(
            lambda value: known[value.name] if isinstance(value, Result) else value,
            (arguments, named),
            is_leaf=lambda value: isinstance(value, Result),
        )
        known[name] = graph.create_node(op, target, tuple(values[0]), values[1], name=name)
    return GraphModule({}, graph)


def namespaces(operations: Sequence[Operation]) -> set[str]:
    """Return the operators' namespaces."""
    return {each.target.namespace for each in operations if isinstance(each.target, Operator)}


def layout(tensor: Tensor) -> Layout:
    return Layout(tuple(tensor.shape), tensor.stride(), tensor.dtype, str(tensor.device))
