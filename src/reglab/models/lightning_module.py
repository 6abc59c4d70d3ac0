"""A LightningModule is no plain network: its ``training_step`` would not be called."""

from torch import nn

from reglab.core.errors import UserError

_HOOKS = ("training_step", "configure_optimizers")
_PACKAGES = ("pytorch_lightning", "lightning")


def check_plain(model: type[nn.Module], given: str) -> None:
    """Refuse a LightningModule with a training step or optimizers of its own.

    Args:
        model: The class.
        given: How it was given, for the message.

    Raises:
        UserError: With what to give instead.
    """
    for hook in _HOOKS:
        owner = next((base for base in model.__mro__ if hook in vars(base)), None)
        lightning = any(_is_lightning(base) for base in model.__mro__)
        if lightning and owner is not None and not owner.__module__.startswith(_PACKAGES):
            raise UserError(
                f"{given}: {model.__name__} is a LightningModule, and its {hook} would not be called here. Give the "
                "network alone, which reglab trains by the task of the data; or train the module in your own "
                "pl.Trainer(callbacks=[reglab.Regularize([...], task=...)]), which regularizes and measures it"
            )


def _is_lightning(base: type) -> bool:
    return base.__name__ == "LightningModule" and base.__module__.startswith(_PACKAGES)
