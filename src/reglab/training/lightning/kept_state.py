"""Call a module's steps without leaving a trace in what it keeps of them."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

_LARGEST = 2**20
_OWN_TO_MODULES = frozenset(vars(nn.Module()))  # hooks, parameters, submodules
_SYNCHRONIZED = ("sync_on_compute", "dist_sync_on_step", "_to_sync")  # every rank computes all batches


@contextmanager
def kept_state(module: nn.Module) -> Iterator[None]:
    """A context after which buffers and attributes of ``module`` are what they were, in its
    submodules too: numbers, tensors and arrays of up to a million elements (larger ones are taken
    for constants), and what lists, dicts and sets hold. Objects of other classes are left alone.

    Metrics of torchmetrics begin anew inside it, and are computed by each rank for itself.

    Args:
        module: Whose weights do not change inside the context.
    """
    parts = list(module.modules())
    attributes = [
        {name: _copied(value) for name, value in vars(part).items() if name not in _OWN_TO_MODULES} for part in parts
    ]
    references = [{name: vars(part)[name] for name in kept} for part, kept in zip(parts, attributes, strict=True)]
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    for metric in (part for part in parts if isinstance(part, Metric)):
        metric.reset()
        vars(metric).update(dict.fromkeys(_SYNCHRONIZED, False))
    try:
        yield
    finally:
        for part, kept, before in zip(parts, attributes, references, strict=True):
            for name in [name for name in vars(part) if name not in _OWN_TO_MODULES and name not in kept]:
                del vars(part)[name]
            for name, value in kept.items():
                vars(part)[name] = _restored(before[name], value)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])


def _copied(value: Any) -> Any:
    """Return what a value holds, containers inside it included."""
    if isinstance(value, Tensor | np.ndarray):
        size = value.numel() if isinstance(value, Tensor) else value.size
        return value if size > _LARGEST else value.detach().clone() if isinstance(value, Tensor) else value.copy()
    if isinstance(value, dict):
        return [(key, each, _copied(each)) for key, each in value.items()]
    if isinstance(value, list | deque):
        return [(each, _copied(each)) for each in value]
    return set(value) if isinstance(value, set) else value


def _restored(value: Any, kept: Any) -> Any:
    """Return the object that was there, with what it held."""
    if isinstance(value, Tensor | np.ndarray):
        if kept is not value:
            with torch.no_grad():
                value[...] = kept
    elif isinstance(value, dict):
        value.clear()
        value.update({key: _restored(each, inner) for key, each, inner in kept})
    elif isinstance(value, list | deque):
        value.clear()
        value.extend([_restored(each, inner) for each, inner in kept])
    elif isinstance(value, set):
        value.clear()
        value.update(kept)
    return value
