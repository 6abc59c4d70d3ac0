"""Which classes a configuration of a stranger's can have built, by config key: a new one is added here, knowingly."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from reglab.config import trust
from reglab.config.hydra_node import SLOTS, VARIABLES, check_hydra
from reglab.config.instantiate import BUILT_IN, locate
from reglab.core.errors import UserError
from reglab.measures import Measure
from reglab.regularizers import Regularizer

BASES = {
    "model": nn.Module,
    "regularizer": Regularizer,
    "optimizer": Optimizer,
    "scheduler": LRScheduler,
    "loss": nn.Module,
    "measure": Measure,
}
OURS = {
    "model": {"CNN", "EachDocument", "Linear", "MLP", "Timm", "Transformers"},
    "regularizer": {
        *("Dropout", "EMA", "EarlyStopping", "ElasticNet", "Flooding", "L1", "L1Subgradient", "L2", "LabelSmoothing"),
        *("MaxNorm", "Mixup", "SAM", "WeightDecay", "WeightDecayFixed"),
        "WeightAverage",  # abstract: not built
    },
    "optimizer": {"Lion", "Muon", "ScheduleFree"},
    "scheduler": {"WarmupDecay"},
    "loss": set(),
    "measure": {
        "ByClass",
        "Calibration",
        "Curvature",
        "Flatness",
        "Gap",
        "GradientNoise",
        "Gradients",
        "Margins",
        "Memorization",
        "Norms",
        "Sparsity",
        "SpectralShape",
        "Spectrum",
        "Weights",
    },
}
TORCHS = ("torch.nn.modules", "torch.optim", "torchmetrics.classification", "torchmetrics.regression")


def classes(base: type) -> Iterator[type]:
    """Yield every class derived from ``base`` that anything here has defined."""
    for derived in base.__subclasses__():
        yield derived
        yield from classes(derived)


def load_all() -> None:
    package = importlib.import_module("reglab")
    for module in pkgutil.walk_packages(package.__path__, "reglab."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@pytest.mark.parametrize("key", BUILT_IN)
def test_each_key_builds_these_classes_of_ours_and_torchs_own(key: str) -> None:
    load_all()
    found: set[str] = set()
    with trust.isolated():
        for each in set(classes(BASES[key])):
            path = f"{each.__module__}.{each.__qualname__}"
            try:
                locate(path, BASES[key], key)
            except UserError:
                continue
            if each.__module__.startswith("reglab."):
                found.add(each.__name__)
            else:
                assert each.__module__.startswith(TORCHS), path
    assert found == OURS[key]


def test_hydra_builds_listed_classes_of_their_base() -> None:
    Plugins.instance()
    for base, paths in SLOTS.values():
        module, _, name = base.rpartition(".")
        expected = getattr(importlib.import_module(module), name)
        for path in paths:
            module, _, name = path.rpartition(".")
            assert issubclass(getattr(importlib.import_module(module), name), expected)


@pytest.mark.parametrize(
    "part", ["PATH", "LD_", "PYTHON", "GIT", "PROXY", "HOME", "_FILE", "_DIR", "PRELOAD", "URI", "_TOKEN"]
)
def test_no_variable_that_a_file_may_set_names_a_place_or_a_program(part: str) -> None:
    assert not [name for name in VARIABLES if part in name]


def test_a_search_of_others_is_refused_with_what_there_is_instead() -> None:
    """Even where the user trusts it: seeds, choice, report and resume of a sweep would do nothing."""
    built = {"launcher": {"_target_": SLOTS["launcher"][1][0]}}
    built["sweeper"] = {"_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"}
    with trust.isolated():
        trust.trust("hydra_plugins")
        with pytest.raises(UserError, match=r"hydra/sweeper=optuna is not run here: .*sweep\.blocks.*reglab\.fit"):
            check_hydra(OmegaConf.create({"hydra": built}))
