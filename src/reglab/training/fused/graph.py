"""A step traced once into a graph of tensor operations, which runs as it is, or compiled."""

import copy
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

from reglab.training.fused.products import turn_narrow

_log = logging.getLogger(__name__)


class Graph:
    """Runs ``function(*arguments)``, which may change its tensors in place and returns one tensor, from a trace.

    It is traced when it is made, on copies; calls must pass tensors of the same shapes. peak: bytes of what its
    operations hold at once.
    """

    def __init__(self, function: Callable[..., Tensor], arguments: tuple[Any, ...]) -> None:
        leaves, shape = pytree.tree_flatten(arguments)
        self._places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        constants = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]

        def flat_function(*tensors: Tensor) -> Tensor:
            filled = list(constants)
            for place, tensor in zip(self._places, tensors, strict=True):
                filled[place] = tensor
            return function(*pytree.tree_unflatten(filled, shape))

        with torch.no_grad(), _quiet():
            # Fake tensors: nothing is computed, and half the time of a trace with real ones.
            trace = make_fx(flat_function, tracing_mode="fake", _allow_non_fake_inputs=True)
            traced = trace(*self.flat(arguments))
        self.peak = peak(traced)
        self.compiled = False
        self._trace = traced
        self._run: Callable[..., Tensor] = traced

    def flat(self, arguments: tuple[Any, ...]) -> list[Tensor]:
        """Return the tensors of the arguments, as ``run`` takes them."""
        leaves = pytree.tree_leaves(arguments)
        return [leaves[place] for place in self._places]

    def __call__(self, *arguments: Any) -> Tensor:
        return self.run(self.flat(arguments))

    def run(self, tensors: list[Tensor]) -> Tensor:
        """Run on flat tensors: quicker where most of them are the same in every call."""
        with torch.no_grad():
            return self._run(*tensors)

    def compile(self, tensors: list[Tensor]) -> None:
        """Compile for ``tensors``, of which all but the last must then be these very ones in every call.

        By Inductor, ``torch.compile``'s own compiler, which takes the trace as it is: no guards to check at each step.
        On CUDA as a graph of the device, which costs one launch a step. Where either fails, one line says so and the
        trace runs as it is.
        """
        from torch import _inductor  # late: it takes seconds

        self.compiled = True
        try:
            with torch.no_grad(), _quiet(), _cached():
                trace = copy.deepcopy(self._trace)
                turn_narrow(trace)
                run: Callable[..., Tensor] = _inductor.compile(trace, [*_copies(tensors)])
            with torch.no_grad(), _quiet():
                run(*_copies(tensors))
                self._run = _captured(run, tensors) if tensors[0].is_cuda else run
        except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and training can go on without
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _log.warning("compiling failed (%s); training goes on without it", reason[:200])


@contextmanager
def _cached() -> Iterator[None]:
    """Let Inductor find what it compiled in an earlier process: 2 s instead of 5 to 10.

    Outside of ``torch.compile`` it asks its cache only if shapes have an environment, also fixed ones.
    """
    from torch._functorch import config
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    fixed = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)
    with config.patch(bundled_autograd_cache=False), tracing(TracingContext(fixed)):
        yield


def _captured(run: Callable[..., Tensor], tensors: list[Tensor]) -> Callable[..., Tensor]:
    """Return ``run`` as a CUDA graph over ``tensors``; what the last one holds is copied in at every call."""
    fixed = [*tensors[:-1], tensors[-1].clone()]
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        answer = run(*fixed)

    def replay(*given: Tensor) -> Tensor:
        fixed[-1].copy_(given[-1])
        graph.replay()
        return answer.clone()

    return replay


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


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # What torch says of itself while it traces and compiles is not the user's doing.
        warnings.simplefilter("ignore")
        yield
