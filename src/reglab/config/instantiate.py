"""Typed instantiation of a composed config.

Each config key has an expected class. A ``_target_`` outside trusted packages (``config.trust``) is
refused before its module is imported, one that is not a subclass before it is called. Functions are
refused too: nothing is known about what they do. A ``_target_`` among a class's
arguments is plain data here, and is not instantiated.

Of reglab's and torch's own classes, each key builds those of ``BUILT_IN`` alone: that a package is
trusted does not make each of its classes one that a stranger may construct.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from reglab.config.argument_kinds import check_kinds
from reglab.config.trust import check_given, check_trusted, is_given
from reglab.core.errors import UserError, nearest

T = TypeVar("T")
MISSING = "???"  # how Hydra writes a value that the user must give
# Where the classes are defined that a config may build, by the first part of its key; of what the user trusts, any.
BUILT_IN = {
    "model": ("reglab.models", "torch.nn.modules"),
    "regularizer": ("reglab.regularizers",),
    "optimizer": ("torch.optim", "reglab.optimizers"),
    "scheduler": ("torch.optim.lr_scheduler", "torch.optim.swa_utils", "reglab.optimizers.schedules"),
    "loss": ("torch.nn.modules.loss",),
    "measure": ("reglab.measures", "torchmetrics.classification", "torchmetrics.regression"),
}


def locate(target: object, base: type[T], key: str) -> type[T]:
    """Return the class that the dotted path ``target`` names, which must be a subclass of ``base``.

    Path and class must both lie in trusted packages: ``my_package.os.system`` leads out of one.

    Args:
        target: The dotted path of a class.
        base: The expected base class.
        key: The config key, which says of whose classes (``BUILT_IN``).

    Raises:
        UserError: If one does not, if there is no such module or class, or if it is something else.
    """
    if not isinstance(target, str) or target == MISSING or not is_path(target):
        raise UserError(
            f"{key}._target_ must be the dotted path of a {base.__name__} class, such as "
            f"package.module.Class; got {target!r}"
        )
    module_name, _, name = target.rpartition(".")
    check_trusted(module_name, f"{key}._target_={target}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"{key}._target_={target}: cannot import {module_name!r} ({error}). Is the package installed, or its "
            "folder on PYTHONPATH?"
        ) from error
    cls = getattr(module, name, None)
    if cls is None:
        raise UserError(f"{key}._target_={target}: {module_name} has no {name!r}; {_near_class(module, name, base)}")
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UserError(f"{key}._target_={target} is not a subclass of {base.__module__}.{base.__qualname__}")
    check_trusted(cls.__module__, f"{key}._target_={target} is defined in {cls.__module__}")
    places = BUILT_IN.get(key.partition(".")[0], ())
    if not is_given(cls.__module__) and not any(f"{cls.__module__}.".startswith(f"{place}.") for place in places):
        raise UserError(
            f"{key}._target_={target} is not a class that a configuration builds here: take one of "
            f"{', '.join(places) or 'a package of yours'}, or a class of your own"
        )
    return cls


def construct(cls: type[T], arguments: Mapping[str, Any], key: str) -> T:
    """Return ``cls(**arguments)``.

    Args:
        cls: The class.
        arguments: Keyword arguments from the config.
        key: The config key, for messages.

    Raises:
        UserError: Naming a misspelt, missing or invalid argument.
    """
    parameters = inspect.signature(cls).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in arguments:
        if name not in parameters and not open_ended:
            raise UserError(f"{key}.{name}: {cls.__name__} has no such argument; {nearest(name, parameters)}")
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and arguments.get(name, MISSING) == MISSING
    ]
    if missing:
        raise UserError(
            f"{key}: {cls.__name__} needs {', '.join(missing)}; give it on the command line as "
            f"+{key}.{missing[0]}=... or beside _target_"
        )
    if not is_given(cls.__module__):
        check_kinds(cls, arguments, key)
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        raise UserError(f"{key}: {error}") from error


def build(config: Mapping[str, Any], base: type[T], key: str, **extra: Any) -> T:
    """Return the instance that a config node with a ``_target_`` describes.

    Args:
        config: Keyword arguments and ``_target_``.
        base: The expected base class.
        key: The config key, for messages.
        extra: Further keyword arguments, which the config does not give.
    """
    arguments = {name: value for name, value in config.items() if name != "_target_"}
    return construct(locate(config.get("_target_"), base, key), {**arguments, **extra}, key)


def build_function(config: object, base: type[T], key: str) -> Callable[..., Any]:
    """Return the function of two arguments that a config node names, or an instance of ``base``.

    A function must be defined in a package that the user trusts, as a class must. The node's
    arguments are given by name, and never the first two, which are tensors in every call: what a
    stranger's config says reaches no function as its subject.

    Args:
        config: The dotted path, or ``_target_`` and keyword arguments.
        base: Of instances.
        key: The config key, for messages.

    Raises:
        UserError: For anything else.
    """
    if not isinstance(config, Mapping):
        config = {"_target_": config}
    target = function_path(config.get("_target_"), key)
    function = _function(target, key)
    if function is None:
        return build(config, base, key)  # type: ignore[return-value]  # instances that are called
    arguments = {name: value for name, value in config.items() if name != "_target_"}
    parameters = list(inspect.signature(function).parameters)
    for name in arguments:
        if name not in parameters[2:]:
            raise UserError(f"{key}.{name}: {target} has no such argument; {nearest(name, parameters[2:])}")
    return partial(function, **arguments)


def function_path(target: object, key: str) -> str:
    """Return ``target``, the dotted path of a function or class.

    Args:
        target: The path.
        key: The config key, for the message.

    Raises:
        UserError: If it is none.
    """
    if not isinstance(target, str) or not is_path(target):
        raise UserError(f"{key} must be the dotted path of a function, such as package.module.name; got {target!r}")
    return target


def _function(target: str, key: str) -> Callable[..., Any] | None:
    """Return the function of a dotted path; None where it names something else."""
    module_name, _, name = target.rpartition(".")
    check_trusted(module_name, f"{key}={target}")
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except ImportError:
        return None  # reported where a class is looked for
    if not inspect.isfunction(found):
        return None
    check_given(found.__module__, f"{key}={target}")
    return found


def is_path(target: str) -> bool:
    """Return whether ``target`` is the path of something in a module.

    ``package.__main__`` is a program, which importing may start.
    """
    parts = target.split(".")
    names = all(part.isidentifier() for part in parts)
    return names and len(parts) > 1 and not any(part.startswith("__") for part in parts[1:])


def near_name(module: object, name: str) -> str:
    """Return a hint with the nearest class or function of a module.

    Args:
        module: That was imported.
        name: What it does not have.
    """
    return nearest(name, [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")])


def _near_class(module: object, name: str, base: type) -> str:
    classes = [
        attribute for attribute, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)
    ]
    return nearest(name, classes)
