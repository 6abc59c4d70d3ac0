"""Build a user's LightningModule, and find which of Lightning's two packages it is from."""

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from reglab.config.instantiate import construct, locate
from reglab.config.lightning_loop import MARK, own_hook
from reglab.config.objects import build_arguments
from reglab.core.errors import UserError

T = TypeVar("T")
_ROOTS = ("pytorch_lightning", "lightning.pytorch")


@dataclass(frozen=True)
class Package:
    """One of Lightning's two packages: a module is trained by the Trainer of its own.

    Args:
        name: ``pytorch_lightning`` or ``lightning.pytorch``.
    """

    name: str

    def get(self, name: str) -> Any:
        """Return a class of the package.

        Args:
            name: Such as ``Trainer``, or dotted, ``callbacks.Checkpoint``.
        """
        module, _, own = f"{self.name}.{name}".rpartition(".")
        return getattr(importlib.import_module(module), own)

    def late(self, callback: type[T]) -> type[T]:
        """Return a class of callbacks that Lightning calls after the module's own hooks.

        Args:
            callback: The class; Lightning tells such callbacks by a base class of its own.
        """
        made: type[T] = type(callback.__name__, (callback, self.get("callbacks.Checkpoint")), {})
        return made


def package_of(cls: type) -> Package | None:
    """Return the package whose LightningModule a class is derived from; None if from neither.

    Args:
        cls: Any class.
    """
    for base in cls.__mro__:
        if base.__name__ == "LightningModule" and (names := [n for n in _ROOTS if base.__module__.startswith(f"{n}.")]):
            return Package(names[0])
    return None


def build_module(node: Mapping[str, Any]) -> nn.Module:
    """Return the LightningModule that the node of ``model=lightning`` describes.

    Args:
        node: ``_target_`` and its arguments.

    Raises:
        UserError: For a class that is none, or has no training step, and for wrong arguments.
    """
    target = node.get("_target_")
    cls = module_class(node)
    if own_hook(cls, "training_step") is None:
        raise UserError(
            f"model._target_={target}: {cls.__name__} has no training_step of its own; a plain network is trained by "
            "model=custom"
        )
    arguments = build_arguments({key: node[key] for key in node if key != MARK}, "model")
    with warnings.catch_warnings():
        # Of save_hyperparameters, whose networks no checkpoint holds twice here.
        warnings.filterwarnings("ignore", message="Attribute .* is an instance of `nn.Module`")
        return construct(cls, arguments, "model")


def module_class(node: Mapping[str, Any]) -> type[nn.Module]:
    """Return the class of the node of ``model=lightning``.

    Args:
        node: With its ``_target_``.

    Raises:
        UserError: For a class that is no LightningModule.
    """
    target = node.get("_target_")
    cls = locate(target, nn.Module, "model")
    if package_of(cls) is None:
        raise UserError(
            f"model._target_={target}: {cls.__name__} is no LightningModule: train a plain network by model=custom"
        )
    return cls
