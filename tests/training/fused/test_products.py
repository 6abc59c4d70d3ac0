"""Products with few columns are computed the other way round, to the same numbers; others are left as they are."""

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from reglab.training.fused.products import turn_narrow

_TURNED = [torch.ops.aten.transpose.int, torch.ops.aten.transpose.int, torch.ops.aten.bmm.default]


def traced(columns: int) -> tuple[torch.fx.GraphModule, tuple[Tensor, Tensor]]:
    factors = torch.randn(3, 64, 8), torch.randn(3, 8, columns)
    return make_fx(lambda first, second: torch.bmm(first, second).relu(), tracing_mode="fake")(*factors), factors


def targets(graph: torch.fx.GraphModule) -> list[object]:
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def test_a_narrow_product_is_turned() -> None:
    graph, (first, second) = traced(10)
    turn_narrow(graph)
    assert targets(graph)[:3] == _TURNED
    torch.testing.assert_close(graph(first, second), (first.double() @ second.double()).relu().float())


def test_a_wide_product_is_left() -> None:
    graph, _ = traced(64)
    before = targets(graph)
    turn_narrow(graph)
    assert targets(graph) == before
