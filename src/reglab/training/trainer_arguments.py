"""Check the arguments of Lightning's ``Trainer`` by the table of what they do here."""

import os
from collections.abc import Collection, Mapping
from typing import Any

from pytorch_lightning.profilers import Profiler

from reglab.config.trainer_table import ACTS, OWN, REFUSED, REFUSED_IN_FIT
from reglab.core.errors import UserError, nearest

# Values that ask for what is done anyhow.
_AS_IT_IS: Mapping[str, tuple[object, ...]] = {
    "enable_checkpointing": (True,),
    "enable_progress_bar": (True,),
    "enable_autolog_hparams": (True,),
    "inference_mode": (True,),
    "fast_dev_run": (False,),
    "limit_val_batches": (1.0,),
    "limit_test_batches": (1.0,),
    "overfit_batches": (0, 0.0),
    "val_check_interval": (1.0,),
    "check_val_every_n_epoch": (1,),
    "num_sanity_val_steps": (0,),
    "enable_model_summary": (False,),
    "use_distributed_sampler": (False,),
    "barebones": (False,),
    "reload_dataloaders_every_n_epochs": (0,),
}
# Arguments that Lightning would take anything for.
KINDS: Mapping[str, tuple[object, ...]] = {
    "deterministic": (True, False, "warn"),
    "benchmark": (True, False),
    "detect_anomaly": (True, False),
    "profiler": ("simple", "advanced", "pytorch"),
}
_VARIABLES = "PL_TRAINER_"  # Lightning takes arguments that are not given from such variables


def supported(trainer: Mapping[str, object], also: Collection[str] = ()) -> dict[str, object]:
    """Return the arguments that act, without those that say what is done anyhow.

    Args:
        trainer: Arguments of Lightning's ``Trainer``; others are left to it.
        also: Those that act beside, where Lightning's own loop trains.

    Raises:
        UserError: Naming one that does not act, and what to give instead; for a variable of
            Lightning's that sets an argument behind the configuration's back.
    """
    _check_variables()
    kept: dict[str, object] = {}
    for key, value in trainer.items():
        if key in ACTS or key in OWN or key in also:
            if key in KINDS and value is not None and value not in KINDS[key] and not isinstance(value, Profiler):
                raise UserError(f"trainer.{key}={value!a}: give {' or '.join(map(_word, KINDS[key]))}")
            kept[key] = value
        elif key not in REFUSED:
            raise UserError(f"trainer.{key} is no setting of the trainer: {nearest(key, (*ACTS, *OWN))}")
        elif _is_refused(key, value):
            raise UserError(f"trainer.{key} has no effect here: {REFUSED[key]}")
    return kept


def check_of_fit(trainer: object) -> dict[str, Any]:
    """Return the arguments given to ``reglab.fit``; refuse, in the words of Python, what has no
    effect there.

    Args:
        trainer: As it was given.

    Raises:
        UserError: Naming what to give instead.
    """
    if not isinstance(trainer, Mapping):
        raise UserError(f"trainer={trainer!r}: give a mapping, such as trainer={{'accelerator': 'cpu'}}")
    for key, value in trainer.items():
        if key in REFUSED and _is_refused(key, value):
            raise UserError(f"trainer={{{key!r}: ...}} has no effect here: {REFUSED_IN_FIT.get(key) or REFUSED[key]}")
        if key not in ACTS and key not in OWN and key not in REFUSED:
            raise UserError(f"trainer={{{key!r}: ...}} is no argument of a trainer: {nearest(str(key), (*ACTS, *OWN))}")
    return dict(trainer)


def _is_refused(key: str, value: object) -> bool:
    """Return whether an argument that has no effect asks for something else than what is done."""
    return value is not None and (type(value), value) not in [(type(it), it) for it in _AS_IT_IS.get(key, ())]


def _check_variables() -> None:
    for variable, given in os.environ.items():
        key = variable.removeprefix(_VARIABLES).lower()
        if variable.startswith(_VARIABLES) and key in {*ACTS, *REFUSED}:
            raise UserError(
                f"{variable}={given} is set, which no run would record: unset it. "
                + (f"Instead: {REFUSED[key]}" if key in REFUSED else f"Instead: trainer.{key}={given}")
            )


def _word(value: object) -> str:
    return str(value).lower()
