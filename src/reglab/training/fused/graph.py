"""Trace a step into an FX graph, and run it eager, compiled or as a CUDA graph."""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from reglab.training.fused.graph_passes import scatter_by_comparison, transpose_narrow_products
from reglab.training.fused.operations import Layout, Operation, layout, operations

_CHECK_STEPS, _TOLERANCE = 5, 1e-3


class Graph:
    """Runs ``function(*arguments)``, which may change its tensors in place and returns one tensor,
    from a trace.

    It is traced when it is made, on copies; calls must pass tensors of the same shapes.

    Attributes:
        peak: Bytes of what its operations hold at once.
        compiled: Whether it runs compiled, see ``adopt``.
    """

    def __init__(self, function: Callable[..., Tensor], arguments: tuple[Any, ...]) -> None:
        leaves, shape = pytree.tree_flatten(arguments)
        self._tensor_indices = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        constants = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]

        def flat_function(*tensors: Tensor) -> Tensor:
            filled = list(constants)
            for index, tensor in zip(self._tensor_indices, tensors, strict=True):
                filled[index] = tensor
            return function(*pytree.tree_unflatten(filled, shape))

        with torch.no_grad(), _quiet():
            # Fake tensors: nothing is computed, and half the time of a trace with real ones.
            trace = make_fx(flat_function, tracing_mode="fake", _allow_non_fake_inputs=True)
            traced = trace(*self.flat(arguments))
        self.peak = peak(traced)
        self.compiled = False
        self._trace, self._constants = _lift_constants(traced)
        self._run: Callable[..., Sequence[Tensor]] = self._trace

    def flat(self, arguments: tuple[Any, ...]) -> list[Tensor]:
        """Return the tensors of the arguments, as ``run`` takes them."""
        leaves = pytree.tree_leaves(arguments)
        return [leaves[index] for index in self._tensor_indices]

    def __call__(self, *arguments: Any) -> Tensor:
        return self.run(self.flat(arguments))

    def run(self, tensors: list[Tensor]) -> Tensor:
        """Run on flat tensors: quicker where most of them are the same in every call."""
        with torch.no_grad():
            return self._run(*self._constants, *tensors)[0]

    def operations(self) -> list[Operation]:
        """Return the trace as values for another process, rewritten by the graph passes.

        Raises:
            ValueError: Where it holds more than operations.
        """
        trace = copy.deepcopy(self._trace)
        transpose_narrow_products(trace)
        scatter_by_comparison(trace)
        return operations(trace.graph)

    def layouts(self, tensors: list[Tensor]) -> list[Layout]:
        """Return the layouts of all that the trace takes, to be called with ``tensors``."""
        return [layout(tensor) for tensor in [*self._constants, *tensors]]

    def adopt(self, run: Callable[..., Sequence[Tensor]], tensors: list[Tensor]) -> None:
        """Switch to ``run``, compiled from the trace; all but the last tensor must stay the same
        objects.

        It runs on copies first, beside the trace: compilers have been wrong in silence. On CUDA it
        becomes a graph of the device, which costs one launch a step.

        Raises:
            ValueError: Where the two do not agree.
        """
        with torch.no_grad(), _quiet():
            actual, expected = (_run_on_copies(each, self._constants, tensors) for each in (run, self._trace))
            if not agree(actual, expected):
                raise ValueError("the compiled step disagrees with the uncompiled one")
            self._run = _capture_cuda_graph(run, [*self._constants, *tensors]) if tensors[0].is_cuda else run
        self.compiled = True


def agree(actual: Tensor, expected: Tensor) -> bool:
    """Return whether compiled and eager steps agree.

    Rounding differs, and Adam turns a gradient that is nothing but rounding into whole steps; so
    the terms of the loss are compared over some steps, each to a thousandth of the member's loss.
    Members that diverge are left out.

    Args:
        actual: The terms of the loss, [steps, terms, members].
        expected: Those of the uncompiled steps.
    """
    losses = expected.abs().sum(1)
    steady = torch.isfinite(losses).all(0) & (losses <= 2 * losses[0]).all(0)
    near = (actual - expected).abs().sum(1) <= _TOLERANCE * losses
    return bool((near | ~steady).all())


def _run_on_copies(run: Callable[..., Sequence[Tensor]], constants: list[Tensor], tensors: list[Tensor]) -> Tensor:
    """Return the results of consecutive calls on copies."""
    copies = [tensor.clone() for tensor in tensors]
    return torch.stack([run(*constants, *copies)[0].clone() for _ in range(_CHECK_STEPS)])


def _lift_constants(traced: GraphModule) -> tuple[GraphModule, list[Tensor]]:
    """Return the trace with its constants as first inputs, and its result in a tuple; and these
    constants.

    The rows of the data are such constants: what is compiled holds neither them nor where they lie.
    """
    graph, constants = traced.graph, []
    first = next(iter(graph.nodes))
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        value = getattr(traced, str(node.target), None)
        if isinstance(value, Tensor):
            constants.append(value)
            with graph.inserting_before(first):
                lifted = graph.placeholder(f"constant_{len(constants)}")
            lifted.meta = dict(node.meta)
            node.replace_all_uses_with(lifted)
            graph.erase_node(node)
    output = graph.output_node()
    output.args = ((output.args[0],),)
    return GraphModule(traced, graph), constants


def _capture_cuda_graph(run: Callable[..., Sequence[Tensor]], tensors: list[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Return ``run`` as a CUDA graph over ``tensors``; what the last one holds is copied in at
    every call.
    """
    static_inputs = [*tensors[:-1], tensors[-1].clone()]
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        output = run(*static_inputs)[0]

    def replay(*inputs: Tensor) -> Sequence[Tensor]:
        static_inputs[-1].copy_(inputs[-1])
        graph.replay()
        return (output.clone(),)

    return replay


def peak(traced: GraphModule) -> int:
    """Return the peak memory of the trace's intermediate results, in bytes."""
    last: dict[Node, Node] = {}
    for node in traced.graph.nodes:
        for source in node.all_input_nodes:
            last[source] = node
    freed_after: dict[Node, list[Node]] = {}
    for node, end in last.items():
        freed_after.setdefault(end, []).append(node)
    held = most = 0
    for node in traced.graph.nodes:
        if node.op == "call_function":
            held += _bytes(node)
            most = max(most, held)
        held -= sum(_bytes(source) for source in freed_after.get(node, []) if source.op == "call_function")
    return most


def _bytes(node: Node) -> int:
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    return sum(each.nbytes for each in values if isinstance(each, Tensor))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # What torch says of itself while it traces and compiles is not the user's doing.
        warnings.simplefilter("ignore")
        yield
