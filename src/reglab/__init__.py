"""reglab: which regularizer, how strongly, and why.

Everything is imported when it is first used: ``import reglab`` costs nothing, and the command's
help needs no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reglab.api.bias_variance import BiasVarianceResult, bias_variance
    from reglab.api.claims import Claims, claims
    from reglab.api.degrees_of_freedom import DegreesOfFreedom, degrees_of_freedom
    from reglab.api.fit import Fit, fit
    from reglab.callback.attach import attach
    from reglab.callback.regularize import Regularize
    from reglab.config.sweep_functions import linear, log
    from reglab.core.errors import Diverged, UserError
    from reglab.data import DataSet
    from reglab.data.arrays import dataset
    from reglab.huggingface.trainer_callback import TransformersCallback
    from reglab.inference.find import predictor
    from reglab.measures import MeasureSettings
    from reglab.regularizers import (
        EMA,
        L1,
        L2,
        SAM,
        Dropout,
        EarlyStopping,
        ElasticNet,
        Flooding,
        L1Subgradient,
        LabelSmoothing,
        MaxNorm,
        Mixup,
        Regularizer,
        WeightDecay,
        WeightDecayFixed,
    )
    from reglab.sweeps.function_sweep import Sweep, sweep
    from reglab.training.restore import load

_HOMES = {
    "reglab.data": ("DataSet",),
    "reglab.data.arrays": ("dataset",),
    "reglab.core.errors": ("Diverged", "UserError"),
    "reglab.measures": ("MeasureSettings",),
    "reglab.regularizers": (
        "EMA",
        "L1",
        "L2",
        "SAM",
        "Dropout",
        "EarlyStopping",
        "ElasticNet",
        "Flooding",
        "L1Subgradient",
        "LabelSmoothing",
        "MaxNorm",
        "Mixup",
        "Regularizer",
        "WeightDecay",
        "WeightDecayFixed",
    ),
    "reglab.callback.regularize": ("Regularize",),
    "reglab.callback.attach": ("attach",),
    "reglab.huggingface.trainer_callback": ("TransformersCallback",),
    "reglab.api.bias_variance": ("BiasVarianceResult", "bias_variance"),
    "reglab.api.claims": ("Claims", "claims"),
    "reglab.api.degrees_of_freedom": ("DegreesOfFreedom", "degrees_of_freedom"),
    "reglab.api.fit": ("Fit", "fit"),
    "reglab.config.sweep_functions": ("linear", "log"),
    "reglab.sweeps.function_sweep": ("Sweep", "sweep"),
    "reglab.training.restore": ("load",),
    "reglab.inference.find": ("predictor",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - grouped as a reader looks for them
    "fit",
    "Fit",
    "load",
    "predictor",
    "dataset",
    "DataSet",
    "Regularize",
    "attach",
    "TransformersCallback",
    "sweep",
    "Sweep",
    "log",
    "linear",
    "bias_variance",
    "BiasVarianceResult",
    "claims",
    "Claims",
    "degrees_of_freedom",
    "DegreesOfFreedom",
    "Regularizer",
    "MeasureSettings",
    "UserError",
    "Diverged",
    "EMA",
    "L1",
    "L2",
    "SAM",
    "Dropout",
    "EarlyStopping",
    "ElasticNet",
    "Flooding",
    "L1Subgradient",
    "LabelSmoothing",
    "MaxNorm",
    "Mixup",
    "WeightDecay",
    "WeightDecayFixed",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'reglab' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
