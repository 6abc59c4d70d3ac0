"""Graph passes: narrow products and one-hot scatters are written otherwise, to the same numbers;
others are left.
"""

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from reglab.training.fused.graph_passes import scatter_by_comparison, transpose_narrow_products

_TRANSPOSED = [torch.ops.aten.transpose.int, torch.ops.aten.transpose.int, torch.ops.aten.bmm.default]


def traced(columns: int) -> tuple[torch.fx.GraphModule, tuple[Tensor, Tensor]]:
    factors = torch.randn(3, 64, 8), torch.randn(3, 8, columns)
    return make_fx(lambda first, second: torch.bmm(first, second).relu(), tracing_mode="fake")(*factors), factors


def targets_of(graph: torch.fx.GraphModule) -> list[object]:
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def test_a_narrow_product_is_transposed() -> None:
    graph, (first, second) = traced(10)
    transpose_narrow_products(graph)
    assert targets_of(graph)[:3] == _TRANSPOSED
    torch.testing.assert_close(graph(first, second), (first.double() @ second.double()).relu().float())


def test_a_wide_product_is_left() -> None:
    graph, _ = traced(64)
    before = targets_of(graph)
    transpose_narrow_products(graph)
    assert targets_of(graph) == before


def test_the_gradient_of_the_cross_entropy_is_the_same_without_a_scatter() -> None:
    logits, targets = torch.randn(3, 7, 5, dtype=torch.float64), torch.randint(0, 5, (3, 7))

    def gradient(logits: Tensor, targets: Tensor) -> Tensor:
        def loss(values: Tensor, wanted: Tensor) -> Tensor:
            return torch.nn.functional.cross_entropy(values, wanted)

        return torch.func.vmap(torch.func.grad(loss))(logits, targets)

    graph = make_fx(gradient, tracing_mode="fake")(logits, targets)
    assert torch.ops.aten.scatter.value in targets_of(graph)
    scatter_by_comparison(graph)
    assert torch.ops.aten.scatter.value not in targets_of(graph)
    assert torch.equal(graph(logits, targets), gradient(logits, targets))
    closed = (logits.softmax(-1) - torch.nn.functional.one_hot(targets, 5)) / 7
    torch.testing.assert_close(graph(logits, targets), closed)


def test_a_scatter_of_more_than_one_number_a_row_is_left() -> None:
    index = torch.tensor([[0, 2], [1, 3]])
    graph = make_fx(lambda row: row.scatter(1, index, 5.0), tracing_mode="real")(torch.zeros(2, 4))
    scatter_by_comparison(graph)
    assert torch.ops.aten.scatter.value in targets_of(graph)
