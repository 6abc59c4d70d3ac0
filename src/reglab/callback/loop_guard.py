"""StopIteration raised by a module or callback must not end Lightning's loops quietly."""

from contextlib import AbstractContextManager

import pytorch_lightning as pl
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature

from reglab.core.user_code import without_stop_iteration

_STEPS = ("training_step", "validation_step")
_OTHERS = ("backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping", "lr_scheduler_step",
           "transfer_batch_to_device")  # fmt: skip
_HOOKS = [
    name
    for kind in (pl.LightningModule, pl.Callback)
    for name in dir(kind)
    if name.startswith("on_") and callable(getattr(kind, name))
]


def loop_guard(trainer: pl.Trainer, module: pl.LightningModule) -> AbstractContextManager[None]:
    """Return a context in which hooks of ``module`` and of the callbacks raise CodeFailed for
    StopIteration.

    Lightning takes it for the end of the data: the epoch, or its validation, would end early and
    the fit succeed. A step that takes ``dataloader_iter`` ends its epoch so by right, and is left.

    Args:
        trainer: Which fits.
        module: Which is fitted.
    """
    steps = [name for name in _STEPS if not is_param_in_hook_signature(getattr(module, name), "dataloader_iter")]
    return without_stop_iteration(
        [module, *trainer.callbacks],  # type: ignore[attr-defined]  # Lightning sets it late
        dict.fromkeys([*steps, *_OTHERS, *_HOOKS]),
    )
