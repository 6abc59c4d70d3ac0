"""Build the Lightning callbacks that a config names, and refuse those that act against the run."""

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks

from reglab.config.instantiate import construct, locate
from reglab.config.lightning_loop import derives_from, own_hook
from reglab.config.objects import build_arguments
from reglab.core.errors import UserError, nearest

_log = logging.getLogger(__name__)
_LIGHTNING = ("pytorch_lightning.", "lightning.")
_OBSERVERS = {"LearningRateMonitor": callbacks.LearningRateMonitor, "DeviceStatsMonitor": callbacks.DeviceStatsMonitor}
# What else Lightning has, and what a run has instead.
INSTEAD: Mapping[str, str] = {
    "EarlyStopping": "give regularizer=[early_stopping], which keeps the best epoch too",
    "Checkpoint": "each run keeps last.ckpt and best.ckpt (measure.monitor), and reglab resume RUN continues it",
    "OnExceptionCheckpoint": "each run keeps last.ckpt and best.ckpt, and reglab resume RUN continues it",
    "WeightAveraging": "give regularizer=[ema]",
    "StochasticWeightAveraging": "give regularizer=[ema]",
    "GradientAccumulationScheduler": "give trainer.accumulate_grad_batches",
    "BatchSizeFinder": "give data.batch_size",
    "LearningRateFinder": "sweep optimizer.lr: its jobs train together",
    "ModelPruning": "give regularizer=[l1], which reaches exact zeros",
    "BaseFinetuning": "give optimizer.groups",
    "BasePredictionWriter": "reglab predict RUN writes predictions",
    "ProgressBar": "progress is shown on standard error",
    "ModelSummary": "the run's chart of weights describes the model",
    "Timer": "the journal has the time of each row, and `timeout 1h reglab train ...` saves and ends a run",
    "ThroughputMonitor": "give trainer.profiler=simple",
    "SpikeDetection": "a run whose loss is not finite is ended, and objective/... shows its spikes",
    "LambdaCallback": "write a class of your own",
}
INSTEAD_IN_PYTHON: Mapping[str, str] = {
    "EarlyStopping": "give reglab.EarlyStopping() among the regularizers, which keeps the best epoch too",
    "Checkpoint": "with tracking=... the run keeps last.ckpt and best.ckpt (MeasureSettings(monitor=...))",
    "OnExceptionCheckpoint": "with tracking=... the run keeps last.ckpt and best.ckpt",
    "WeightAveraging": "give reglab.EMA() among the regularizers",
    "StochasticWeightAveraging": "give reglab.EMA() among the regularizers",
    "GradientAccumulationScheduler": "give trainer={'accumulate_grad_batches': 4}",
    "BatchSizeFinder": "give batch_size=...",
    "LearningRateFinder": "try several lr=... by reglab.sweep",
    "ModelPruning": "give reglab.L1() among the regularizers, which reaches exact zeros",
    "BaseFinetuning": "give optimizer={'_target_': ..., 'groups': [...]}",
    "BasePredictionWriter": "reglab.predictor(run).predict(rows) returns predictions",
    "ModelSummary": "print(model) describes it",
    "Timer": "give epochs=..., or trainer={'max_steps': ...}",
    "ThroughputMonitor": "give trainer={'profiler': 'simple'}",
}
# Hooks that are called around the steps and epochs of reglab's own models.
_CALLED = ("on_fit_start", "on_fit_end", "on_train_start", "on_train_end", "on_train_epoch_start", "on_train_epoch_end",
           "on_train_batch_start", "on_train_batch_end", "on_exception", "on_save_checkpoint",
           "on_load_checkpoint")  # fmt: skip
_PLAIN = (str, int, float, bool, torch.Tensor, type(None))


def build_callbacks(node: object, own_loop: bool) -> list[pl.Callback]:
    """Return the callbacks of a config, in its order.

    Args:
        node: Callbacks by name, each a mapping of ``_target_`` and its arguments; or None.
        own_loop: Whether Lightning's own loop trains a LightningModule, where each hook is called.

    Raises:
        UserError: For a class that is not trusted, is no callback or acts against the run, and for
            hooks that would never be called.
    """
    if node is not None and not isinstance(node, Mapping):
        raise UserError(f"callbacks={node} must name each callback, as +callbacks.watch._target_=my_package.Watch")
    made: dict[str, pl.Callback] = {}
    for name, each in (node or {}).items():
        if each is None:
            continue
        key = f"callbacks.{name}"
        if not isinstance(each, Mapping):
            raise UserError(f"{key}={each} must be a mapping with _target_, as +{key}._target_=my_package.Watch")
        cls = _class(each.get("_target_"), key)
        made[key] = construct(cls, build_arguments(each, key), key)
        if not own_loop:
            _check_hooks(cls, key)
        _check_state(made[key], key)
    _check_keys(made)
    return list(made.values())


def check_callbacks(given: object) -> list[pl.Callback]:
    """Return the callbacks that ``reglab.fit`` was given, in their order.

    Args:
        given: A list of callbacks, or one.

    Raises:
        UserError: For what is no callback or acts against the run, and for hooks that would never be
            called.
    """
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    made: dict[str, pl.Callback] = {}
    for number, each in enumerate(several):
        key, cls = f"callbacks[{number}]", type(each)
        if isinstance(each, type):
            raise UserError(f"{key} is the class {each.__name__}: give an instance of it, {each.__name__}()")
        if not derives_from(cls, "Callback"):
            raise UserError(f"{key} is a {cls.__name__}: callbacks takes a list of pytorch_lightning.Callback")
        if any(each is other for other in made.values()):
            raise UserError(f"{key} is given twice: leave one of them out")
        if any(base.__name__ == "Regularize" and base.__module__.startswith("reglab.") for base in cls.__mro__):
            raise UserError(f"{key} is a reglab.Regularize, of a Trainer of yours: give reglab.fit its regularizers")
        _refuse_acting(cls, key, INSTEAD_IN_PYTHON)
        _check_hooks(cls, key)
        _check_state(each, key)
        made[key] = each
    _check_keys(made)
    return list(made.values())


def warn_of_state(made: Sequence[pl.Callback]) -> None:
    """Log, for a run that is resumed, which callbacks keep nothing in a checkpoint.

    Args:
        made: The callbacks.
    """
    for callback in made:
        if own_hook(type(callback), "state_dict") is None and not type(callback).__module__.startswith(_LIGHTNING):
            name = type(callback).__name__
            _log.warning("The callback %s has no state_dict, so what it counted before is not resumed", name)


def _class(target: object, key: str) -> type[pl.Callback]:
    """Return the class of a target, one of Lightning's observers or of the user's own."""
    package, _, name = str(target).rpartition(".")
    if f"{package}.".startswith(_LIGHTNING):
        if name in _OBSERVERS:
            return _OBSERVERS[name]
        lightnings = getattr(callbacks, name, None)
        if isinstance(lightnings, type):
            _refuse_acting(lightnings, f"{key}._target_={target}")
        elif package.endswith(".callbacks"):
            raise UserError(f"{key}._target_={target}: Lightning has no such callback; {nearest(name, _OBSERVERS)}")
    cls: type[Any] = locate(target, object, key)
    if not derives_from(cls, "Callback"):
        raise UserError(f"{key}._target_={target} is not a subclass of pytorch_lightning.Callback")
    _refuse_acting(cls, f"{key}._target_={target}")
    return cls


def _refuse_acting(cls: type, told: str, words: Mapping[str, str] = MappingProxyType({})) -> None:
    """Refuse a class of Lightning's that acts. words: Of Python, for what has a name there."""
    for name, instead in INSTEAD.items():
        if derives_from(cls, name):
            found = words.get(name, instead)
            raise UserError(f"{told}: a callback of the kind {name} is not taken here; instead: {found}")


def _check_hooks(cls: type[pl.Callback], key: str) -> None:
    """Refuse hooks that are never called."""
    for hook in (name for name in dir(pl.Callback) if name.startswith("on_") and name not in _CALLED):
        if own_hook(cls, hook):
            raise UserError(
                f"{key}: {cls.__name__}.{hook} is never called where reglab trains and measures the model; use "
                "on_train_epoch_end or on_train_batch_end, or train a LightningModule of your own (model=lightning)"
            )


def _check_state(callback: pl.Callback, key: str) -> None:
    """Refuse a state that a checkpoint, which holds plain data alone, does not give back."""
    if (strange := _strange(callback.state_dict())) is not None:
        raise UserError(
            f"{key}: the state_dict of {type(callback).__name__} holds a {strange}, and checkpoints hold plain data "
            "alone: return numbers, texts, tensors, lists and dicts"
        )


def _strange(value: object) -> str | None:
    """Return the name of the first type in ``value`` that is not plain; None if all is."""
    if isinstance(value, dict):
        return next((found for each in (*value, *value.values()) if (found := _strange(each))), None)
    if type(value) in (list, tuple):
        return next((found for each in value if (found := _strange(each))), None)  # type: ignore[attr-defined]
    return None if isinstance(value, _PLAIN) else type(value).__name__


def _check_keys(made: Mapping[str, pl.Callback]) -> None:
    """Refuse two callbacks whose states a checkpoint could not tell apart."""
    known: dict[str, str] = {}
    for key, callback in made.items():
        state = callback.state_key
        if state in known and own_hook(type(callback), "state_dict"):
            raise UserError(f"{key} and {known[state]} have the same state_key {state!r}: give each its own property")
        known[state] = key
