"""Flatten params to dotted keys and write the config as YAML."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from reglab.core import atomic_write
from reglab.core.describe_error import storable
from reglab.core.secrets import hide

_OF_RECORDING = ("name", "trust", "tracking")
_DEFAULT_MEASURES = ("gap", "weights", "memorization")


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested ``params`` under dotted keys, each value as one would type it.

    Text bare, the rest as JSON. ``{"optimizer": {"lr": 0.1}, "regularizer": ["l1"]}`` becomes
    ``{"optimizer.lr": "0.1", "regularizer": '["l1"]'}``. Secrets are hidden.
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = storable(hide(value if isinstance(value, str) else json.dumps(value, default=str)))
    return flat


def shown(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return params less those that say where a run is recorded, and less the measures that are taken
    by default; its ``config.yaml`` has them.
    """
    kept = {key: value for key, value in params.items() if key.partition(".")[0] not in _OF_RECORDING}
    if isinstance(measure := kept.get("measure"), Mapping):
        kept["measure"] = {key: value for key, value in measure.items() if key not in _DEFAULT_MEASURES}
    return kept


def shorten(values: Mapping[str, str], limit: int, artifact: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return (values that a store takes, the full text of those above ``limit`` characters).

    A long one is replaced by its length and the name of ``artifact``, which has it whole.
    """
    long = {key: value for key, value in values.items() if len(value) > limit}
    short = {key: f"{len(value)} characters: see the artifact {artifact}" for key, value in long.items()}
    return {**values, **short}, long


def write_config(path: Path, config: Mapping[str, Any], written: dict[str, str]) -> None:
    """Write ``config`` as YAML, interpolations unresolved.

    A secret from the environment is not written out, and a literal one is
    hidden.

    Args:
        written: The nodes of earlier configs, which this one adds to. Configs of a sweep share most
            of their nodes, and turning one into YAML takes milliseconds.
    """
    text = ""
    for name, node in config.items():
        known = repr((name, node))
        if known not in written:
            written[known] = hide(OmegaConf.to_yaml(OmegaConf.create({name: node}), resolve=False))
        text += written[known]
    atomic_write.write(path, text)
