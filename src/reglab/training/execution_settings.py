"""Execution settings: accumulation, compile, activation checkpointing, SyncBatchNorm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reglab.core.errors import UserError


@dataclass(frozen=True)
class Engine:
    """Execution settings of a job, from ``trainer``.

    Args:
        accumulate: Microbatches of a step, each of ``data.batch_size`` rows over all devices.
        compile: The inner module by ``torch.compile``: true, a mode, or options.
        activation_checkpointing: Compute the inside of these modules again in the backward pass, to
            save memory: true for the repeated blocks, or patterns over names.
        sync_batchnorm: Statistics of the joint batch of all ranks.
        polish: Full-batch proximal steps after the last epoch; see ``polish.polish``.
    """

    accumulate: int = 1
    compile: bool | str | Mapping[str, Any] = False
    activation_checkpointing: bool | str | Sequence[str] = False
    sync_batchnorm: bool = True
    polish: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.accumulate, int) or isinstance(self.accumulate, bool) or self.accumulate < 1:
            raise UserError(f"trainer.accumulate_grad_batches must be an integer >= 1, got {self.accumulate}")
        if not isinstance(self.polish, int) or isinstance(self.polish, bool) or self.polish < 0:
            raise UserError(f"trainer.polish_steps must be an integer >= 0, got {self.polish}")
        if not isinstance(self.sync_batchnorm, bool):
            raise UserError(f"trainer.sync_batchnorm must be true or false, got {self.sync_batchnorm}")


def split_settings(trainer: Mapping[str, Any]) -> tuple[Engine, dict[str, Any]]:
    """Split ``trainer`` into execution settings and Lightning's own arguments."""
    lightning_settings = dict(trainer)
    engine = Engine(
        lightning_settings.pop("accumulate_grad_batches", 1),
        lightning_settings.pop("compile", None) or False,
        lightning_settings.pop("activation_checkpointing", None) or False,
        lightning_settings.pop("sync_batchnorm", True),
        0 if (polish := lightning_settings.pop("polish_steps", None)) is None else polish,
    )
    return engine, lightning_settings
