"""A LightningModule is no plain network: its ``training_step`` would not be called."""

from torch import nn

from reglab.core.errors import UserError

_HOOKS = ("training_step", "configure_optimizers")
_PACKAGES = ("pytorch_lightning.", "lightning.")


def is_lightning_module(model: type) -> bool:
    """Return whether a class is derived from the LightningModule of either of Lightning's packages.

    Args:
        model: Any class.
    """
    return any(base.__name__ == "LightningModule" and base.__module__.startswith(_PACKAGES) for base in model.__mro__)


def check_plain(model: type[nn.Module], given: str) -> None:
    """Refuse a LightningModule with a training step or optimizers of its own.

    Args:
        model: The class.
        given: How it was given, for the message.

    Raises:
        UserError: With what to give instead.
    """
    for hook in _HOOKS:
        if is_lightning_module(model) and own_hook(model, hook) is not None:
            raise UserError(
                f"{given}: {model.__name__} is a LightningModule, and its {hook} would not be called here. Train it by "
                "its own steps with model=lightning (in Python: reglab.Regularize in your own pl.Trainer), or give the "
                "network alone"
            )


def own_hook(model: type, hook: str) -> type | None:
    """Return the class that defines a hook, if that is not Lightning's.

    Args:
        model: Any class.
        hook: Such as ``training_step``.
    """
    owner = next((base for base in model.__mro__ if hook in vars(base)), None)
    return None if owner is None or owner.__module__.startswith(_PACKAGES) else owner
