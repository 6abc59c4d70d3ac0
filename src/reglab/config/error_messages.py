"""Messages for errors in a configuration, naming the nearest valid name."""

import re
from collections.abc import Mapping

from hydra.core.config_loader import ConfigLoader
from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from reglab.config.class_weight import CLASS_WEIGHT
from reglab.config.job_request import RECORDED
from reglab.config.trainer_table import ACTS, REFUSED
from reglab.config.used_keys import INSTEAD
from reglab.core.errors import UserError, nearest
from reglab.core.override import typed

_OVERRIDE_KEY = re.compile(r"Could not override '([^']+)'")
_RESOLVING = re.compile(r"\w+ raised while resolving interpolation: ")  # OmegaConf's own business
_NO_KEY = re.compile(r"Interpolation key '(.+?)' not found")
_SEVERAL_VALUES = re.compile(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'")


_REMOVED = {"measure.resamples": "intervals are computed in closed form, without resampling. Leave it out"}
_REMOVED |= {f"sweep.{key}": "a sweep tells it to its jobs by itself. Leave it out" for key in RECORDED}


def group_options(loader: ConfigLoader, parent: str = "") -> dict[str, list[str]]:
    """Return the options of every config group that Hydra knows."""
    options: dict[str, list[str]] = {}
    for name in loader.list_groups(parent):
        group = f"{parent}/{name}" if parent else name
        options[group] = [option for option in loader.get_group_options(group) if not option.startswith("_")]
        options |= group_options(loader, group)
    return options


def explain(error: BaseException, options: Mapping[str, list[str]]) -> str | None:
    """Return the message for an error of Hydra or OmegaConf, or None if it is no such error.

    Args:
        error: Any error.
        options: The options of every config group, to name the nearest.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return _parse_error(error)
    if isinstance(error, MissingConfigException):
        return _missing_option(error, options)
    if isinstance(error, CompactHydraException):
        return _override_error(error, options)
    if isinstance(error, MissingMandatoryValue):
        key = error.full_key or str(error).rpartition(" ")[2]
        return f"{key} has no value: set {key}=..."
    if isinstance(error, OmegaConfBaseException):
        text = _first_line(error) + (f" ({error.full_key})" if error.full_key else "")
        missing = _NO_KEY.search(text)
        if missing and error.full_key:
            text += f"; a text with a dollar sign and braces is {typed(str(error.full_key), f'${{{missing[1]}}}')}"
        return text
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        return f"{error}: a group is chosen by the name of its option"
    return None


def override_key(error: BaseException) -> str | None:
    """Return the key that Hydra could not override, if that is what the error says."""
    match = _OVERRIDE_KEY.search(str(error))
    return match.group(1) if match else None


def _parse_error(error: OverrideParseException) -> str:
    override = error.override
    if "=" not in override:
        return f"cannot read {override!r}: options are written key=value (reglab train --help)"
    reason = [line for line in error.message.splitlines() if line and not line.startswith(("See ", "Error parsing"))]
    detail = f" ({reason[0].strip()})" if reason else ""
    key, _, value = override.partition("=")
    if key.lstrip("+") == CLASS_WEIGHT:
        return f"cannot read {override!r}{detail}: write each class in quotes, as in '{CLASS_WEIGHT}={{\">50K\": 3}}'"
    if not re.match(r"[\[{\"'(]", value) and "," not in value:  # one text, not a part of a list
        return f"cannot read {override!r}{detail}: if it is this text that you mean, type {typed(key, value)}"
    return (
        f"cannot read {override!r}{detail}: a list is written [a,b], a mapping {{a:1,b:2}}, and text with special "
        "characters is quoted inside the shell's quotes: 'key=\"a (b)\"'"
    )


_PLUGINS = {
    "hydra/launcher": (
        ("joblib", "submitit", "ray", "rq"),
        "hydra/launcher=fused (one joint step), local (worker processes) or process (a process, and a GPU, each) runs "
        "the jobs of a sweep; on Slurm give srun reglab train ... inside an allocation",
    ),
}
# Plugins of others, which start jobs without what a sweep needs.
_OF_OTHERS = {(group, name): instead for group, (names, instead) in _PLUGINS.items() for name in names}


def _missing_option(error: MissingConfigException, options: Mapping[str, list[str]]) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return _first_line(error)
    valid = options.get(group, error.options or [])
    if instead := _OF_OTHERS.get((group, option.partition("_")[0])):
        return f"{group}={option} is not installed, nor needed: {instead}"
    hint = nearest(option, valid)
    others = f" (valid: {', '.join(sorted(valid))})" if hint.startswith("did you mean") else ""
    return f"{group}={option}: there is no such option; {hint}{others}"


def _override_error(error: CompactHydraException, options: Mapping[str, list[str]]) -> str:
    text = str(error)
    ambiguous = _SEVERAL_VALUES.search(text)
    if ambiguous:
        key, _, value = ambiguous.group(1).partition("=")
        return (
            f"{ambiguous.group(1)} gives several values: add -m for a sweep, or write [a,b] for a list; one text with "
            f"a comma is {typed(key, value)}"
        )
    key, cause = override_key(error), error.__cause__
    if key and isinstance(cause, (ConfigAttributeError, ConfigKeyError)):
        return _unknown_key(key, cause, options)
    if key in INSTEAD:
        return f"{key} is a key that nothing reads: {INSTEAD[key]}"
    if key:
        return f"{key}: the configuration has no such group here; {nearest(key, options)}, or add one with +{key}=..."
    if isinstance(cause, OmegaConfBaseException):
        return f"{_first_line(error)}: {_first_line(cause)}" if text else explain(cause, options) or str(cause)
    return " ".join(text.split())


def _unknown_key(key: str, cause: OmegaConfBaseException, options: Mapping[str, list[str]]) -> str:
    full_key = str(cause.full_key or key)
    parent = cause.parent_node
    valid = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
    parent_key, _, last = full_key.rpartition(".")
    if not parent_key:
        valid = sorted(name for name in {*valid, *options} if not name.startswith("hydra"))
    if last in options.get(parent_key, []):
        return f"{key}: {last} is not chosen; choose it first, as in {parent_key}=[{last}]"
    if parent_key == "optimizer" and not valid:
        return f"{key} has no effect with model=lightning: the module's configure_optimizers decides; +model.{last}=..."
    if parent_key in options:
        valid = valid or options[parent_key]
    if full_key in _REMOVED:
        return f"{key} was removed: {_REMOVED[full_key]}"
    if parent_key == "trainer" and last in ACTS:
        return f"{key} stands in no file: add it with a plus, +{key}=..."
    if parent_key == "trainer" and last in REFUSED:
        return f"{key} has no effect here: {REFUSED[last]}"
    if not parent_key and last in INSTEAD:
        return f"{key} is a key that nothing reads: {INSTEAD[last]}"
    where = f" in {parent_key}" if parent_key else ""
    if parent_key and not valid:
        return f"{key}: {parent_key} has no keys"
    more = f", or add an argument of its class with +{key}=..." if "_target_" in valid else ""
    return f"{key}: there is no key {last!r}{where}; {nearest(last, valid)}{more}"


def _first_line(error: BaseException) -> str:
    return _RESOLVING.sub("", (str(error).strip() or type(error).__name__).splitlines()[0])
