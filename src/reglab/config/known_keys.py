"""Keys of a composed config that nothing reads: a misspelt one in a file would be ignored in silence."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reglab.config.paths import conf_dir
from reglab.config.yaml_file import read_plain
from reglab.core.errors import UserError, nearest
from reglab.core.secret_values import texts

_PRIMARY = "train.yaml"


def check_known(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse a top-level key, or one of ``sweep``, that neither reglab nor an interpolation reads.

    What the command line adds by ``+key=value`` is meant to be recorded with the run, and stays.

    Args:
        config: Composed.
        overrides: Of the command line.

    Raises:
        UserError: Naming the key, and the nearest known one.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    built_in = read_plain(conf_dir() / _PRIMARY)
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    given = {re.split(r"[.=@]", override.lstrip("+"))[0] for override in overrides if override.startswith("+")}
    known = ({*built_in} - {"defaults"}) | groups | {"hydra"}
    interpolated = " ".join(text for text in texts(plain) if "${" in text)
    _check("", plain, known | given, interpolated)
    if isinstance(plain.get("sweep"), Mapping) and "sweep" not in given:
        _check("sweep.", plain["sweep"], set(built_in["sweep"]), interpolated)


def _check(prefix: str, node: Mapping[str, Any], known: set[str], interpolated: str) -> None:
    for key in node:
        if key not in known and not re.search(rf"\$\{{[^}}]*\b{re.escape(str(key))}\b", interpolated):
            hint = nearest(str(key), known - {"hydra"})
            more = "" if prefix else f". To record it with the run all the same, give +{key}=... on the command line"
            raise UserError(f"{prefix}{key}: nothing reads this setting of a file; {hint}{more}")
