"""Validation of a composed config before Hydra acts on it.

Nothing is built from it, nothing of it is written yet.

Hydra builds its own node by itself: callbacks, launcher, sweeper, and Python's logging. There, as
in a job's config, only classes of the expected type from trusted packages pass.
"""

import copy
import importlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from reglab.config.instantiate import locate
from reglab.config.job_request import KEY
from reglab.config.trust import check_trusted, trust_config
from reglab.core import secret_values, secrets
from reglab.core.errors import UserError

_PLUGINS = ("hydra_plugins", "hydra._internal.core_plugins")
_EXPECTED = {"launcher": ("hydra.plugins.launcher", "Launcher"), "sweeper": ("hydra.plugins.sweeper", "Sweeper")}
_CALLBACK = ("hydra.experimental.callback", "Callback")
_LOGGING = ("logging", "rich.logging", "hydra")
_USER = re.compile(r"://[^\s/@$]+@")  # services take a token as the name
_HANDLERS = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "rich.logging.RichHandler")
_GUARDED = ("REGLAB_", "MLFLOW_", "PYTHON", "LD_", "PATH", "HYDRA_")
_STREAMS = ("ext://sys.stderr", "ext://sys.stdout")
_FOLDERS, _NAMES = ("run.dir", "sweep.dir"), ("job.name", "output_subdir", "sweep.subdir")
_CLASSES = {"handlers": logging.Handler, "formatters": logging.Formatter, "filters": logging.Filter}


def check_config(config: DictConfig) -> None:
    """Check a composed config, after reading its trusted packages and its secrets.

    Raises:
        UserError: Naming the key: a class that Hydra may not build, a literal secret, a name that
            leads out of the run's folder, or invalid text.
    """
    _check_trust(config)
    if KEY in config:
        raise UserError(f"{KEY} is what a sweep tells its jobs: leave it out")
    trust_config(config)
    secrets.learn(config)
    plain = OmegaConf.to_container(config, resolve=False)
    for key, value in _leaves(plain, ""):
        _check_text(key, value)
        _check_secret(key, value)
    _check_blocks(plain)
    if "hydra" in config:
        hydra = _resolved_hydra(config)
        _check_built(hydra)
        _check_names(hydra)
        for name in ("hydra_logging", "job_logging"):
            _check_logging(hydra.get(name), f"hydra.{name}")
        _check_environment(config)


def _check_trust(config: DictConfig) -> None:
    """Refuse a list of trusted packages in a file.

    An experiment file of another user could contain one.
    """
    overrides = OmegaConf.select(config, "hydra.overrides.task")
    task_overrides: Any = OmegaConf.to_container(overrides, resolve=False) if overrides is not None else []
    keys = {str(each).lstrip("+").partition("=")[0] for each in task_overrides}
    if config.get("trust") and "trust" not in keys:
        raise UserError(
            f"trust={list(config.trust)} is set in a file, which may not: set it on the command line or in the "
            "environment variable REGLAB_TRUST"
        )


def _check_environment(config: DictConfig) -> None:
    for name in OmegaConf.select(config, "hydra.job.env_set") or {}:
        if str(name).startswith(_GUARDED):
            raise UserError(f"hydra.job.env_set.{name}: a file may not set it; set it in your own environment")


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
        for inner, each in _leaves(value, key):
            _check_secret(inner, each)


def _values(override: Override) -> Any:
    """Return the value of an override, or all values of a sweep."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [getattr(element, "text", element) for element in value.list]
    return getattr(value, "text", value) if not isinstance(value, (dict, list)) else value


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{str(name).lstrip('+~')}" if key else str(name))
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _leaves(value, key)
    else:
        yield key, getattr(node, "text", node)  # Hydra's grammar keeps quotes apart


def _check_text(key: str, value: Any) -> None:
    """Refuse what no file could take.

    Bytes of the command line that are no UTF-8, and the null character.
    """
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
    """Refuse Hydra's keys where only jobs would see them.

    They are checked once, for the whole sweep.
    """
    sweep = plain.get("sweep")
    blocks = sweep.get("blocks") if isinstance(sweep, Mapping) else None
    params = (((plain.get("hydra") or {}).get("sweeper") or {}).get("params")) or {}
    for block in [*(blocks if isinstance(blocks, list) else []), params]:
        for key in block if isinstance(block, Mapping) else ():
            if str(key).lstrip("+~").partition("@")[0].replace("/", ".").partition(".")[0] == "hydra":
                raise UserError(f"sweep.blocks: {key} is a setting of the whole sweep: give it on the command line")


def _resolved_hydra(config: DictConfig) -> Mapping[str, Any]:
    """Return the hydra node resolved, with placeholders for values known only in a job."""
    config, holder = copy.deepcopy(config), HydraConfig.instance()
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.runtime.output_dir = "/output"
        config.hydra.job.id, config.hydra.job.num = "0", 0
    before = holder.cfg
    holder.set_config(config)
    try:
        built: Any = {
            key: OmegaConf.to_container(config.hydra[key], resolve=True)
            for key in (*_EXPECTED, "callbacks", "hydra_logging", "job_logging")
            if OmegaConf.is_config(config.hydra._get_node(key))
        }
        return {**built, **{key: OmegaConf.select(config.hydra, key) for key in (*_FOLDERS, *_NAMES)}}
    finally:
        holder.cfg = before


def _check_built(hydra: Mapping[str, Any]) -> None:
    nodes = {f"hydra.{name}": (hydra.get(name), *base) for name, base in _EXPECTED.items()}
    nodes |= {f"hydra.callbacks.{name}": (node, *_CALLBACK) for name, node in (hydra.get("callbacks") or {}).items()}
    for node_key, (node, module, class_name) in nodes.items():
        if not isinstance(node, Mapping):
            continue
        also = ("hydra.experimental",) if node_key.startswith("hydra.callbacks.") else _PLUGINS
        locate(node.get("_target_"), getattr(importlib.import_module(module), class_name), node_key, also)
        for key, value in _leaves({key: value for key, value in node.items() if key != "_target_"}, node_key):
            if key.endswith("._target_"):  # Hydra builds what is nested, too
                locate(value, object, key.removesuffix("._target_"), also)
            elif key == f"{node_key}.preload":
                check_trusted(str(value), f"{key}={value}")


def _check_logging(node: Any, node_key: str) -> None:
    """Refuse what ``dictConfig`` would call or import, except known logging classes."""
    for key, value in _leaves(node, node_key):
        section = key.removeprefix(f"{node_key}.").partition(".")[0]
        last = key.rpartition(".")[2]
        if last in ("()", "queue", "listener") or (
            last == "class" and section == "handlers" and value not in _HANDLERS
        ):
            raise UserError(f"{key}={value}: logging handlers may only be {', '.join(_HANDLERS)}")
        if last == "class":
            locate(value, _CLASSES.get(section, object), key.rpartition(".")[0], _LOGGING)
        elif last == "filename" and not _is_inside(str(value)):
            raise UserError(f"{key}={value}: give ${{hydra.runtime.output_dir}}/NAME.log, in the run's own folder")
        elif isinstance(value, str) and value.startswith("ext://") and value not in _STREAMS:
            raise UserError(f"{key}={value}: logging may only refer to {' and '.join(_STREAMS)}")


def _is_inside(filename: str) -> bool:
    path = PurePath(filename)
    return path.parts[:2] == ("/", "output") and len(path.parts) > 2 and ".." not in path.parts


def _check_names(hydra: Mapping[str, Any]) -> None:
    for key in (*_FOLDERS, *_NAMES):
        name = str(hydra[key] or "")
        path = PurePath(name)
        if key in _NAMES and (path.is_absolute() or ".." in path.parts):
            raise UserError(f"hydra.{key}={name!r} leads out of the run's folder: give a plain name")
        if not name.isprintable() or secrets.hide(name) != name:
            raise UserError(
                f"hydra.{key}={secrets.hide(name)!r}: folder names may not hold secrets or control characters"
            )
    if len(PurePath(str(hydra["job.name"])).parts) > 1:
        raise UserError(f"hydra.job.name={hydra['job.name']!r} must be a file name: leave out slashes")
