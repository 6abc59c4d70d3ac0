"""Check of Hydra's own node, which Hydra acts on by itself: what it builds, sets and names.

Callbacks, launcher, sweeper and Python's logging are built of listed classes, or of a package that
the user trusts; what is nested in their arguments is never built.
"""

import copy
import importlib
import inspect
import logging
import secrets as random
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from reglab.config.hydra_context import hydra_config
from reglab.config.instantiate import locate
from reglab.config.leaves import leaves
from reglab.config.trust import check_trusted
from reglab.core import secrets
from reglab.core.errors import UserError, nearest

_OURS, _CORE = "hydra_plugins.reglab_plugins", "hydra._internal.core_plugins"
# What Hydra builds: the base class of each slot, and the classes of ours and Hydra's that may stand there.
SLOTS = {
    "launcher": (
        "hydra.plugins.launcher.Launcher",
        (
            *(f"{_OURS}.launcher.LocalLauncher", f"{_OURS}.fused_launcher.FusedLauncher"),
            *(f"{_OURS}.process_launcher.ProcessLauncher", f"{_CORE}.basic_launcher.BasicLauncher"),
        ),
    ),
    "sweeper": (
        "hydra.plugins.sweeper.Sweeper",
        (f"{_OURS}.sweeper.BlocksSweeper", f"{_CORE}.basic_sweeper.BasicSweeper"),
    ),
    "callbacks": (
        "hydra.experimental.callback.Callback",
        (
            "hydra.experimental.callbacks.LogJobReturnCallback",
            "hydra.experimental.callbacks.PickleJobInfoCallback",
        ),
    ),
}
SEARCHES = ("optuna", "ax", "nevergrad")  # sweepers of others, to which a job's result is one number
INSTEAD_OF_SEARCH = (
    "a sweep is planned whole, so that its settings are compared over the same seeds: "
    "'optimizer.lr=log(1e-4,1e-1,8)' or sweep.blocks. In Python, a search of your own calls reglab.fit"
)
_INSTANTIATE = ("_target_", "_recursive_", "_convert_", "_partial_", "_args_", "_mode_", "_self_")  # Hydra's own words
# Variables that size threads, choose devices, or make a library quieter, stricter or offline. Any other may name a
# program, a file, a server or code to load; a child process reads it, whoever starts it.
VARIABLES = frozenset(
    {
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
        *("VECLIB_MAXIMUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY", "KMP_BLOCKTIME"),
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"),
        *("PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE", "NCCL_DEBUG", "TORCH_SHOW_CPP_STACKTRACES"),
        *("TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TQDM_DISABLE", "NO_COLOR"),
    }
)
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
HANDLERS = {
    "logging.NullHandler": (),
    "logging.StreamHandler": ("stream",),
    "logging.FileHandler": ("filename", "mode", "encoding", "delay"),
    "rich.logging.RichHandler": ("rich_tracebacks", "show_time", "show_level", "show_path", "markup"),
}
_OF_ALL_HANDLERS = ("class", "level", "formatter", "filters")
_FORMATTER = ("format", "datefmt", "style", "validate", "class")
_STREAMS = ("ext://sys.stderr", "ext://sys.stdout")
_LOG = ".log"
_FOLDERS, _NAMES = ("run.dir", "sweep.dir"), ("job.name", "output_subdir", "sweep.subdir")


def check_hydra(config: DictConfig) -> None:
    """Check Hydra's node of a composed config.

    Raises:
        UserError: Naming the key: a class that Hydra may not build, a variable that a file may not
            set, a log file elsewhere, a name that leads out of the run's folder.
    """
    written: Any = OmegaConf.to_container(config.hydra, resolve=False)
    for slot, (base, classes) in SLOTS.items():
        node = written.get(slot)
        named = _mapping(node or {}, "hydra.callbacks") if slot == "callbacks" else {"": node}
        for name, each in named.items():
            key = f"hydra.{slot}.{name}".rstrip(".")
            _check_built(key, _mapping(each, key), base, classes)
    output = f"/{random.token_hex(8)}"  # stands for the job's folder, which no file can name
    hydra = _resolved(config, output)
    _check_names(hydra)
    for name in ("hydra_logging", "job_logging"):
        _check_logging(hydra.get(name), f"hydra.{name}", PurePath(output))
    for variable in OmegaConf.select(config, "hydra.job.env_set") or {}:
        if variable not in VARIABLES:
            raise UserError(
                f"hydra.job.env_set.{variable}: a configuration may not set it; set it in your own environment"
            )


def refuse_search(sweeper: str) -> None:
    """Raise UserError for a sweeper of others that searches.

    Args:
        sweeper: Its name, as ``hydra/sweeper=`` takes it.
    """
    if sweeper in SEARCHES:
        raise UserError(
            f"hydra/sweeper={sweeper} is not run here: its jobs would be single runs, without seeds in common, choice, "
            f"report and resume; {INSTEAD_OF_SEARCH}"
        )


def _check_built(key: str, node: Mapping[str, Any], base: str, classes: tuple[str, ...]) -> None:
    """Refuse a class that is neither listed nor of the user's own, and whatever else Hydra would
    build or import for it.
    """
    target = node.get("_target_")
    refuse_search(next((name for name in SEARCHES if str(target).startswith(f"hydra_plugins.hydra_{name}_")), ""))
    if target not in classes:
        module, _, name = base.rpartition(".")
        locate(target, getattr(importlib.import_module(module), name), key)
    elif target.startswith(_OURS):
        _check_arguments(str(target), node, key)
    for inner, value in leaves({name: value for name, value in node.items() if name != "_target_"}, key):
        if (word := inner.rpartition(".")[2]) in _INSTANTIATE:
            raise UserError(f"{inner}={value}: {word} is not for a configuration here: give plain values")
        if inner == f"{key}.preload":
            _check_module(str(value), inner)


def _check_arguments(target: str, node: Mapping[str, Any], key: str) -> None:
    """Refuse an argument that one of our classes does not have, in our words."""
    module, _, name = target.rpartition(".")
    known = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    for argument in node:
        if argument != "_target_" and argument not in known and argument not in _INSTANTIATE:
            raise UserError(f"{key}.{argument}: {name} has no such setting; {nearest(str(argument), known)}")


def _check_module(module: str, key: str) -> None:
    """Refuse a module that is not trusted, and a program: importing it may start it."""
    if not all(part.isidentifier() and not part.startswith("__") for part in module.split(".")):
        raise UserError(f"{key}={module}: give names of modules, such as reglab.training.job")
    check_trusted(module, f"{key}={module}")


def _resolved(config: DictConfig, output: str) -> Mapping[str, Any]:
    """Return the parts of Hydra's node that are read, resolved as in a job."""
    config = copy.deepcopy(config)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.runtime.output_dir = output
        config.hydra.job.id, config.hydra.job.num = "0", 0
    with hydra_config(config):
        read: Any = {
            key: OmegaConf.to_container(config.hydra[key], resolve=True)
            for key in ("hydra_logging", "job_logging")
            if OmegaConf.is_config(config.hydra._get_node(key))
        }
        return {**read, **{key: OmegaConf.select(config.hydra, key) for key in (*_FOLDERS, *_NAMES)}}


def _check_logging(node: Any, key: str, output: PurePath) -> None:
    """Refuse what ``dictConfig`` would call, import or change, except what known classes take."""
    if node is None:
        return
    for inner, value in leaves(_mapping(node, key), key):
        if isinstance(value, str) and "://" in value and value not in _STREAMS and not inner.endswith(".format"):
            raise UserError(f"{inner}={value}: logging may only refer to {' and '.join(_STREAMS)}")
        if inner.rpartition(".")[2] in ("()", ""):
            raise UserError(f"{inner}={value}: logging handlers may only be {', '.join(HANDLERS)}")
        if inner.endswith(".level") and type(value) is not int and value not in logging.getLevelNamesMapping():
            raise UserError(f"{inner}={value} is no level of logging: {nearest(str(value).upper(), _LEVELS)}")
    for name, handler in _named(node, "handlers", key):
        kind, where = handler.get("class"), f"{key}.handlers.{name}"
        if kind not in HANDLERS:
            raise UserError(f"{where}.class={kind}: logging handlers may only be {', '.join(HANDLERS)}")
        _check_keys(handler, (*_OF_ALL_HANDLERS, *HANDLERS[kind]), where)
        _check_plain(handler.get("filters") or [], f"{where}.filters")
        if "filename" in handler and not _is_log(str(handler["filename"]), output):
            raise UserError(
                f"{where}.filename={handler['filename']}: give ${{hydra.runtime.output_dir}}/NAME{_LOG}, in the run's "
                "own folder"
            )
    for name, formatter in _named(node, "formatters", key):
        where = f"{key}.formatters.{name}"
        _check_keys(formatter, _FORMATTER, where)
        if formatter.get("class", "logging.Formatter") != "logging.Formatter":
            raise UserError(f"{where}.class={formatter['class']}: a formatter is logging.Formatter: leave it out")
    for name, each in _named(node, "filters", key):
        _check_keys(each, ("name",), f"{key}.filters.{name}")
    for name, logger in [("root", _mapping(node.get("root") or {}, f"{key}.root")), *_named(node, "loggers", key)]:
        for names in ("handlers", "filters"):
            _check_plain(logger.get(names) or [], f"{key}.{name}.{names}")


def _named(node: Any, section: str, key: str) -> list[tuple[str, Mapping[str, Any]]]:
    each = _mapping(node.get(section) or {}, f"{key}.{section}")
    return [(str(name), _mapping(value, f"{key}.{section}.{name}")) for name, value in each.items()]


def _mapping(node: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(node, Mapping):
        raise UserError(f"{key}={node!r} must be a mapping of settings to values")
    return node


def _check_keys(node: Mapping[str, Any], known: tuple[str, ...], key: str) -> None:
    for name in node:
        if name not in known:
            raise UserError(f"{key}.{name} is not for a configuration: give {', '.join(known)}")


def _check_plain(names: Any, key: str) -> None:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{key}={names}: give a list of names")


def _is_log(filename: str, output: PurePath) -> bool:
    path = PurePath(filename)
    return path.is_relative_to(output) and path.suffix == _LOG and ".." not in path.parts


def _check_names(hydra: Mapping[str, Any]) -> None:
    for key in (*_FOLDERS, *_NAMES):
        name = str(hydra[key] if hydra[key] is not None else "")
        path = PurePath(name)
        if key in _NAMES and (path.is_absolute() or ".." in path.parts):
            raise UserError(f"hydra.{key}={name!r} leads out of the run's folder: give a plain name")
        if hydra[key] is not None and not path.parts and key != "run.dir":
            raise UserError(f"hydra.{key}={name!r} is no folder of its own: give a plain name")
        if not name.isprintable() or secrets.hide(name) != name:
            raise UserError(
                f"hydra.{key}={secrets.hide(name)!r}: folder names may not hold secrets or control characters"
            )
    if len(PurePath(str(hydra["job.name"])).parts) > 1:
        raise UserError(f"hydra.job.name={hydra['job.name']!r} must be a file name: leave out slashes")
