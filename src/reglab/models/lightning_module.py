"""A LightningModule is no plain network: its ``training_step`` would not be called."""

from torch import nn

from reglab.config.lightning_loop import derives_from, own_hook
from reglab.core.errors import UserError

_HOOKS = ("training_step", "configure_optimizers")


def is_lightning_module(model: type) -> bool:
    """Return whether a class is derived from the LightningModule of either of Lightning's packages.

    Args:
        model: Any class.
    """
    return derives_from(model, "LightningModule")


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
