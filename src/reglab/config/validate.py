"""The gate of configs: validation of a composed or recorded config before anything acts on it.

Nothing is built from it, nothing of it is written yet. ``tests/security/test_gates.py`` lists who
reads configs, and that all of them come through here.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from reglab.config.expansion import check_expansion
from reglab.config.hydra_node import check_hydra
from reglab.config.job_request import KEY
from reglab.config.leaves import leaves
from reglab.config.trust import check_listed
from reglab.core import secret_values, secrets
from reglab.core.errors import UserError

_LONGEST = 20_000  # characters of one text; lists hold many
_OF_HYDRA = ("hydra.overrides", "hydra.job.override_dirname")  # which Hydra makes of all overrides
_LARGEST = 2**63  # of whole numbers: what files, stores and tensors hold
_SWITCHES = ("dry", "report", "again", "test")  # of a sweep
_USER = re.compile(r"://[^\s/@$]+@")  # services take a token as the name


def check_config(config: DictConfig) -> None:
    """Check a config, after learning its secrets.

    Args:
        config: Composed, or read from a run's folder.

    Raises:
        UserError: Naming the key: what Hydra may not build, set or name, a package that the user
            does not trust, a literal secret, or invalid text.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    if KEY in plain:
        raise UserError(f"{KEY} is what a sweep tells its jobs: leave it out")
    check_listed(plain.get("trust"))
    if isinstance(plain.get("name"), (Mapping, list)):
        raise UserError(f"name={plain['name']} must be a text")
    check_expansion(plain)
    secrets.learn(config)
    for key, value in leaves(plain, ""):
        _check_text(key, value)
        _check_secret(key, value)
    _check_blocks(plain)
    if "hydra" in config:
        check_hydra(config)


def check_secrets(overrides: Sequence[str]) -> None:
    """Raise UserError if an override of the command line holds a secret.

    Hydra writes what it is given into files.
    """
    parser = OverridesParser.create()
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        try:
            value = _values(parser.parse_override(override))
        except HydraException:  # reported when it is parsed for use
            value = override.partition("=")[2]
        for inner, each in leaves(value, key):
            _check_secret(inner, each)


def _values(override: Override) -> Any:
    """Return the value of an override, or all values of a sweep."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [getattr(element, "text", element) for element in value.list]
    return getattr(value, "text", value) if not isinstance(value, (dict, list)) else value


def _check_text(key: str, value: Any) -> None:
    """Refuse what no file, store or tensor could take.

    Bytes of the command line that are no UTF-8, the null character, texts without end, and whole
    numbers beyond 64 bits.
    """
    if isinstance(value, str) and len(value) > _LONGEST and not key.startswith(_OF_HYDRA):
        raise UserError(f"{key} is a text of {len(value):,} characters, and no setting is that long: shorten it")
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise UserError(f"{key} is a whole number of {value.bit_length()} bits, and no setting is that large")
    if isinstance(value, str) and ("\0" in value or value.encode(errors="replace").decode() != value):
        raise UserError(f"{key}={value!a} is not valid text: give it in UTF-8, without a null character")


def _check_secret(key: str, value: Any) -> None:
    text = str(value)
    if value is None or isinstance(value, bool) or text in ("", "???") or ("${" in text and "://" not in text):
        return
    name = key.rpartition(".")[2]
    if secret_values.is_secret_key(key):
        raise UserError(
            f"{key} holds a literal secret, and configurations are stored in many places: put it into an "
            f"environment variable and give +{key}='${{oc.env:{name.upper()}}}'"
        )
    if secrets.has_url_password(text) or (key == "tracking.uri" and _USER.search(text)):
        raise UserError(
            f"{key} holds a URL with a name or password, and configurations are stored in many places: leave it out "
            "(tracking.uri: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD), or give it as "
            "'${oc.env:NAME}' of an environment variable"
        )


def _check_blocks(plain: Any) -> None:
    """Refuse keys of the whole sweep where only jobs would see them, and values of a wrong type."""
    sweep = plain.get("sweep") or {}
    if not isinstance(sweep, Mapping):
        raise UserError(f"sweep={sweep} must be a mapping of settings to values")
    for key in _SWITCHES:
        if not isinstance(sweep.get(key, False), bool):
            raise UserError(f"sweep.{key} must be true or false, got {sweep[key]!r}")
    for key in ("rule", "path"):
        if not isinstance(sweep.get(key) or "", str):
            raise UserError(f"sweep.{key}={sweep[key]} must be a word")
    if isinstance(sweep.get("seeds"), Mapping):
        raise UserError(f"sweep.seeds={sweep['seeds']} must be a count or a list of integers")
    blocks = sweep.get("blocks")
    if blocks is not None and not isinstance(blocks, list):
        raise UserError(f"sweep.blocks={blocks} must be a list of mappings, as in [{{regularizer: []}}]")
    params = (((plain.get("hydra") or {}).get("sweeper") or {}).get("params")) or {}
    for block in [*(blocks if isinstance(blocks, list) else []), params]:
        for key in block if isinstance(block, Mapping) else ():
            name = re.split(r"[./@=]", str(key).strip().lstrip("+~").strip())[0]
            if name in ("hydra", "trust", KEY):
                raise UserError(f"sweep.blocks: {key} is a setting of the whole sweep: give it on the command line")
