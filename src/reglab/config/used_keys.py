"""Keys of a composed config that nothing reads are refused, so that no setting is ignored.

The groups check their own keys where they are built. A key at the root, or of Hydra's node, is left
to this module; one of the user's own acts where another value refers to it by ``${...}``.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from reglab.config.instantiate import function_path
from reglab.config.leaves import leaves
from reglab.config.paths import conf_dir
from reglab.config.yaml_file import read_mapping
from reglab.core.errors import UserError, nearest

GROUPS = ("data", "model", "optimizer", "scheduler", "regularizer", "measure", "trainer", "tracking")
ROOTS = frozenset({*GROUPS, "name", "seed", "init_seed", "trust", "loss", "callbacks", "sweep", "hydra"})
_PACKAGES = ("experiment", "debug")  # groups whose files set other keys, and leave nothing under their own
_REFERENCE = re.compile(r"\$\{[^}]*")
# Words of other frameworks, and how the same is said here.
INSTEAD = {
    "criterion": "give loss=my_package.losses.my_loss, or leave it to the task of the data (data.task of a table)",
    "metric": "scores are named by measure.scores, and measure.monitor decides",
    "metrics": "scores are named by measure.scores, and measure.monitor decides",
    "logger": "every run is recorded by tracking=mlflow, offline or none",
    "loggers": "every run is recorded by tracking=mlflow, offline or none",
    "datamodule": "a LightningDataModule is given by data=lightning data._target_=my_package.MyData",
    "dataset": "data are named by data=NAME: reglab train --help lists them",
    "ckpt_path": "reglab resume RUN continues a run from its checkpoint",
    "checkpoint": "reglab resume RUN continues a run from its checkpoint",
    "resume": "reglab resume RUN continues a run from its checkpoint",
    "tags": "a run is named by name=..., a study by tracking.experiment=...",
    "task_name": "a run is named by name=..., a study by tracking.experiment=...",
    "lr": "give optimizer.lr",
    "epochs": "give trainer.max_epochs",
    "max_epochs": "give trainer.max_epochs",
    "batch_size": "give data.batch_size",
    "paths": "the run's folder is hydra.run.dir, a sweep's hydra.sweep.dir",
    "train": "reglab train trains, and measure.test=true tests",
    "test": "measure.test=true measures the test part at the end",
}


@cache
def _sweep_keys() -> tuple[str, ...]:
    return tuple(map(str, read_mapping(conf_dir() / "train.yaml").sweep))


def check_used(config: DictConfig, checked: Collection[str] = ()) -> None:
    """Refuse keys that nothing reads.

    Args:
        config: Composed.
        checked: Keys of the root that were checked before, in the config of the whole sweep.

    Raises:
        UserError: Naming the key, and what to give instead; also for a ``loss`` that is no path of a
            function.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    unknown = [str(key) for key in plain if key not in ROOTS and key not in _PACKAGES and key not in checked]
    texts = list(_references(plain)) if unknown else []
    for key in unknown:
        reference = re.compile(rf"(?<!\w)(?<!\w\.){re.escape(key)}(?!\w)")
        if not any(reference.search(text) for where, text in texts if where != key):
            instead = INSTEAD.get(key) or f"{nearest(key, ROOTS - {'hydra'})} (a value may refer to it as ${{{key}}})"
            raise UserError(f"{key} is a key that nothing reads: {instead}")
    for package in _PACKAGES:
        for key, _ in leaves(plain.get(package) or {}, package):
            raise UserError(f"{key} is a key that nothing reads: leave it out")
    known = _sweep_keys()
    for key in plain.get("sweep") or {}:
        if key not in known:
            raise UserError(f"sweep.{key} is a key that nothing reads: {nearest(str(key), known)}")
    if (loss := plain.get("loss")) is not None:
        function_path(loss.get("_target_") if isinstance(loss, Mapping) else loss, "loss")
    hydra = {key: value for key, value in (plain.get("hydra") or {}).items() if key != "env"}  # a group without a node
    _check_hydra(hydra, OmegaConf.structured(HydraConf), "hydra")


def root(override: str) -> str:
    """Return the first part of an override's key.

    Args:
        override: As typed.

    Example:
        >>> root("+optimizer.lr=1")
        'optimizer'
    """
    return re.split(r"[./@=]", override.lstrip("+~"))[0]


def _references(plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the insides of all interpolations, each after the key of the root that it stands under."""
    for key, value in leaves(plain, ""):
        if isinstance(value, str) and not key.startswith(("hydra.overrides", "hydra.job.override_dirname")):
            for text in _REFERENCE.findall(value):
                yield key.partition(".")[0], text


def _check_hydra(node: Any, schema: Any, key: str) -> None:
    """Refuse keys of Hydra's node that Hydra does not know."""
    if not isinstance(node, Mapping) or not is_dataclass(OmegaConf.get_type(schema)):
        return  # where Hydra takes any key
    known = [str(name) for name in schema]  # "in" passes over what the schema leaves open
    for name, value in node.items():
        if name not in known:
            raise UserError(f"{key}.{name} is a key that Hydra does not read: {nearest(str(name), known)}")
        if isinstance(value, Mapping):
            _check_hydra(value, schema._get_node(name), f"{key}.{name}")
