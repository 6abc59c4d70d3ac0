"""Activation checkpointing: recompute activations in the backward pass to save memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reglab.distributed.module_forward import Forward, replace_forwards
from reglab.regularizers.keys import Keys


def recompute(modules: Iterable[nn.Module], keys: Keys) -> Callable[[], None]:
    """Recompute the modules' activations in the backward pass, in place; return the undo.

    Weights, buffers and draws come out to the bit as without: the second forward sees the random
    numbers and buffers that the first one saw, and leaves none of them moved. Classes, names and
    the state dict stay as they are. What a module keeps outside its buffers (a Python counter, say)
    is moved twice, and hooks of modules in it run twice.

    Args:
        modules: Changed in place.
        keys: Of the model's random draws.

    Returns:
        Undoes the change.

    Source:
        Chen et al. (2016), Training deep nets with sublinear memory cost.
    """
    return replace_forwards(modules, lambda module: _Recomputed(module, module.forward, keys))


class _Recomputed:
    """A checkpointed forward that survives ``deepcopy`` with its module and keys."""

    def __init__(self, module: nn.Module, forward: Forward, keys: Keys) -> None:
        self.module = module
        self.forward = forward
        self.keys = keys

    # A compiler cannot take over what is done twice: a compiled model runs these modules as they
    # are.
    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it so
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if not (self.module.training and torch.is_grad_enabled()):
            return self.forward(*arguments, **options)
        start = _ForwardState(self.module, self.keys)

        def run(*arguments: Any) -> Any:
            with start.again() if start.ran_once else start.first():
                return self.forward(*arguments, **options)

        return checkpoint(run, *arguments, use_reentrant=False)


class _ForwardState:
    """State at the start of a forward pass: call counts, example numbers, and buffers that it
    changes.

    Torch's own generators are left to ``checkpoint``.
    """

    def __init__(self, module: nn.Module, keys: Keys) -> None:
        self.module = module
        self.keys = keys
        self.calls, self.index = dict(keys.calls), keys.index
        self.ran_once = False

    @contextmanager
    def first(self) -> Iterator[None]:
        """Around the first forward."""
        before = [(buffer, buffer._version, buffer.clone()) for buffer in self.module.buffers()]
        yield
        # Most forwards move no buffer that they read (BatchNorm's statistics are for evaluation
        # only), and their copies need not be kept. Normalizations count no version, and are in that
        # case.
        self.moved = {id(buffer): value for buffer, version, value in before if buffer._version != version}
        self.ran_once = True

    @contextmanager
    def again(self) -> Iterator[None]:
        """Around each recomputation, which works on copies of the buffers."""
        keys, owners = self.keys, list(_buffer_owners(self.module))
        calls, index = keys.calls, keys.index
        keys.calls, keys.index = dict(self.calls), self.index
        copies = {id(buffer): self.moved.get(id(buffer), buffer).clone() for _, _, buffer in owners}
        for owner, name, buffer in owners:
            owner[name] = copies[id(buffer)]
        try:
            yield
        finally:  # checkpoint ends a forward by an exception, as soon as it has what it needs
            for owner, name, buffer in owners:
                owner[name] = buffer
            keys.calls, keys.index = calls, index


def _buffer_owners(module: nn.Module) -> Iterator[tuple[dict[str, Tensor | None], str, Tensor]]:
    for inner in module.modules():
        for name, buffer in inner._buffers.items():
            if buffer is not None:
                yield inner._buffers, name, buffer
