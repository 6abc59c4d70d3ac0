"""Arguments of Lightning's ``Trainer`` for a job in its own loop."""

from collections.abc import Mapping
from typing import Any

import torch

from reglab.config.trainer_table import ACTS_IN_LIGHTNING, REFUSED_IN_LIGHTNING
from reglab.core.errors import UserError, nearest
from reglab.training.trainer_arguments import supported

_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
_CLIP, _NORM = "gradient_clip_val", "gradient_clip_norm"


def lightning_arguments(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ``Trainer`` is built with.

    Args:
        trainer: ``trainer`` of the job's resolved config.

    Raises:
        UserError: Naming a setting that has no effect in Lightning's own loop.
    """
    settings = dict(trainer)
    settings.pop("checkpoint_seconds", None)
    for key, (neutral, why) in REFUSED_IN_LIGHTNING.items():
        if (value := settings.pop(key, neutral[0])) not in neutral:
            raise UserError(f"trainer.{key}={value} has no effect with model=lightning: {why}")
    norm = settings.pop(_NORM, None)
    if norm is not None and settings.get(_CLIP) is not None:
        raise UserError(f"trainer.{_NORM} and trainer.{_CLIP} are the same here: give one of them")
    if norm is not None:
        settings[_CLIP] = norm
    if (strategy := settings.get("strategy", "auto")) not in _STRATEGIES:
        raise UserError(
            f"trainer.strategy={strategy} is not known to train a LightningModule with regularizers; "
            f"{nearest(str(strategy), _STRATEGIES)}"
        )
    if settings.get("sync_batchnorm") and not _trains_on_gpus(settings):
        settings["sync_batchnorm"] = False  # torch has it for GPUs alone
    epochs_of(settings)
    return supported(settings, ACTS_IN_LIGHTNING)


def _trains_on_gpus(settings: Mapping[str, Any]) -> bool:
    accelerator = settings.get("accelerator", "auto")
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())


def epochs_of(trainer: Mapping[str, Any]) -> int:
    """Return the number of epochs.

    Args:
        trainer: ``trainer`` of the job's resolved config.

    Raises:
        UserError: Where it is none.
    """
    epochs = trainer.get("max_epochs")
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise UserError(
            f"trainer.max_epochs={epochs} must be an integer >= 1 with model=lightning; trainer.max_steps may end "
            "training before"
        )
    return epochs
