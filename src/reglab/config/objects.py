"""Build the nested objects of a user's LightningModule or LightningDataModule from a config.

As Hydra's ``instantiate`` does, with ``_partial_``, but by the rules of ``config.trust``: classes
and functions of packages that the user trusts, and classes of ``torch.nn``, ``torch.optim`` and
``torchmetrics`` that only compute.
"""

import functools
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from reglab.config.instantiate import MISSING, construct, is_path, near_name
from reglab.config.trust import check_trusted, is_given
from reglab.core.errors import UserError, nearest

TARGET, PARTIAL = "_target_", "_partial_"
_SAME_AS_HYDRA = {"_recursive_": (True,), "_convert_": ("none", "partial", "all", "object")}  # what is done anyhow
# Of packages that are not the user's: what a module is commonly made of.
_COMMON = ("torch.nn.modules.", "torch.optim.", "torchmetrics.classification", "torchmetrics.regression",
           "torchmetrics.aggregation", "torchmetrics.segmentation", "torchmetrics.retrieval")  # fmt: skip


def build_arguments(node: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the keyword arguments of a config node, what is described in them built.

    Args:
        node: Plain containers; ``_target_`` and ``_partial_`` themselves are left out.
        key: The config key, for messages.

    Raises:
        UserError: For a target that is not trusted, does not exist, or cannot be built.
    """
    return _arguments(node, key, str(node.get(TARGET)).partition(".")[0])


def _arguments(node: Mapping[str, Any], key: str, package: str) -> dict[str, Any]:
    return {
        str(name): _built(value, f"{key}.{name}", package)
        for name, value in node.items()
        if name not in (TARGET, PARTIAL, *_SAME_AS_HYDRA)
    }


def _built(value: Any, key: str, package: str) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return _object(value, key, package)
        return {name: _built(each, f"{key}.{name}", package) for name, each in value.items()}
    return [_built(each, key, package) for each in value] if isinstance(value, list) else value


def _object(node: Mapping[str, Any], key: str, package: str) -> Any:
    if "_args_" in node:
        raise UserError(f"{key}._args_: give arguments by their names")
    for name, allowed in _SAME_AS_HYDRA.items():
        if name in node and node[name] not in allowed:
            raise UserError(f"{key}.{name}={node[name]} has no effect here: leave it out")
    made = _find(node[TARGET], key, package)
    arguments = _arguments(node, key, package)
    if node.get(PARTIAL):
        return _partial(made, arguments, key)
    if isinstance(made, type):
        return construct(made, arguments, key)
    try:
        return made(**arguments)
    except (ValueError, TypeError) as error:
        raise UserError(f"{key}: {error}") from error


def _partial(made: Any, arguments: Mapping[str, Any], key: str) -> Any:
    """Return ``made`` with some arguments, each of which it has."""
    try:
        known = inspect.signature(made).parameters
    except (TypeError, ValueError):  # of a class written in C
        return functools.partial(made, **arguments)
    open_ended = any(each.kind is each.VAR_KEYWORD for each in known.values())
    for name in arguments:
        if name not in known and not open_ended:
            raise UserError(f"{key}.{name}: {made.__name__} has no such argument; {nearest(name, known)}")
    return functools.partial(made, **arguments)


def _find(target: object, key: str, package: str) -> Any:
    """Return the class or function that ``target`` names.

    Both the path and what it leads to must lie in trusted packages, and a function in that of the
    module itself: nothing is known about what functions of others do.
    """
    if not isinstance(target, str) or target == MISSING or not is_path(target):
        raise UserError(f"{key}._target_ must be the dotted path of a class or function, got {target!r}")
    module_name, _, name = target.rpartition(".")
    told = f"{key}._target_={target}"
    if not _is_common(module_name) and module_name != "torchmetrics":
        check_trusted(module_name, told)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"{told}: cannot import {module_name!r} ({error}). Is the package installed, or its folder on PYTHONPATH?"
        ) from error
    found = getattr(module, name, None)
    if found is None:
        raise UserError(f"{told}: {module_name} has no {name!r}; {near_name(module, name)}")
    home = getattr(found, "__module__", "") or ""
    if is_given(home) and (isinstance(found, type) or (callable(found) and home.partition(".")[0] == package)):
        return found
    if isinstance(found, type) and _is_common(home):
        return found
    raise UserError(
        f"{told} is defined in {home or module_name}, which is not a package that you trust: give a class or function "
        "of your own, or a class of torch.nn, torch.optim or torchmetrics"
    )


def _is_common(module: str) -> bool:
    return f"{module}.".startswith(_COMMON)
