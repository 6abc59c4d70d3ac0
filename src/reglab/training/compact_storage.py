"""Copy tensor views before ``torch.save``, which would write their whole storage."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
_Key = tuple[Any, ...]


def compact(content: T) -> T:
    """Return ``content`` with each view of a larger storage replaced by a copy.

    So the row of one member does not bring the rows of all others along. Two names of one tensor
    stay two names of one tensor. Dicts, lists and tuples are looked into; what needs no change is
    returned as it is, and nothing is mutated.

    Example:
        >>> stacked = torch.zeros(64, 1000)
        >>> compact({"weight": stacked[3]})["weight"].untyped_storage().nbytes()
        4000
    """
    compacted: T = _compact(content, {})
    return compacted


def _compact(value: Any, copies: dict[_Key, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return _whole(value, copies)
    if isinstance(value, Mapping):
        return _changed(value, {key: _compact(each, copies) for key, each in value.items()})
    if type(value) in (list, tuple):
        parts = [_compact(each, copies) for each in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else type(value)(parts)
    return value


def _changed(value: Mapping[Any, Any], parts: dict[Any, Any]) -> Any:
    if all(parts[key] is each for key, each in value.items()):
        return value
    if type(value) is dict:
        return parts
    changed: Any = copy.copy(value)  # of its own class, with what else it carries, as a state dict its versions
    for key, part in parts.items():
        changed[key] = part
    return changed


def _whole(tensor: Tensor, copies: dict[_Key, Tensor]) -> Tensor:
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_quantized:
        return tensor
    if tensor.untyped_storage().nbytes() <= tensor.nbytes:
        return tensor
    key = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
    if key not in copies:
        copies[key] = tensor.detach().clone()
    return copies[key]
