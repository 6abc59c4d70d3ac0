"""FX graph passes before Inductor: transpose narrow batched products, scatter by comparison."""

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

_NARROW = 16  # columns; 64 products [64, 64] x [64, 10] took 2.4 times as long as [10, 64] x [64, 64]
_aten = torch.ops.aten


def transpose_narrow_products(traced: GraphModule) -> None:
    """Compute ``a b`` as ``(b^T a^T)^T`` in place where ``b`` has few columns, as a last layer's
    transposed weights.
    """
    for node in list(traced.graph.nodes):
        if node.target is not _aten.bmm.default:
            continue
        value = node.meta["val"]
        _, rows, columns = value.shape
        if value.is_cuda or columns > _NARROW or rows < 2 * columns:
            continue
        with traced.graph.inserting_before(node):
            swap = _aten.transpose.int
            first, second = (traced.graph.call_function(swap, (factor, 1, 2)) for factor in node.args)
            product = traced.graph.call_function(_aten.bmm.default, (second, first))
            swapped = traced.graph.call_function(swap, (product, 1, 2))
        node.replace_all_uses_with(swapped)
        traced.graph.erase_node(node)
    traced.recompile()


def scatter_by_comparison(traced: GraphModule) -> None:
    """Write one number into each row by ``where(arange == index, number, row)`` in place of
    ``scatter``.

    The backward pass of the cross-entropy scatters -1 to each row's target. Inductor takes a
    scatter for a change in place, does not vectorize it, and fails on some graphs that read it in a
    softmax (``KeyError: 'bufN'``, https://github.com/pytorch/pytorch/issues/188228).
    """
    for node in list(traced.graph.nodes):
        if node.target is not _aten.scatter.value or len(node.args) != 4:
            continue
        source, dim, index, number = node.args
        value, at = source.meta["val"], index.meta["val"]
        dim %= value.dim()
        if at.shape != (*value.shape[:dim], 1, *value.shape[dim + 1 :]):
            continue
        with traced.graph.inserting_before(node):
            positions = _positions(traced, value, dim)
            here = traced.graph.call_function(_aten.eq.Tensor, (positions, index))
            scalar = {"dtype": value.dtype, "device": value.device}
            filled = traced.graph.call_function(_aten.full.default, ([], number), scalar)
            written = traced.graph.call_function(_aten.where.self, (here, filled, source))
        node.replace_all_uses_with(written)
        traced.graph.erase_node(node)
    traced.recompile()


def _positions(traced: GraphModule, value: Tensor, dim: int) -> Node:
    """Add 0, 1, ... along ``dim`` to the graph, in a shape that broadcasts to ``value``."""
    size = value.shape[dim]
    numbers = traced.graph.call_function(_aten.arange.default, (size,), {"device": value.device})
    shape = [size if each == dim else 1 for each in range(value.dim())]
    return traced.graph.call_function(_aten.view.default, (numbers, shape))
