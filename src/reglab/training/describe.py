"""Build the cocktail, run tags and run name from a composed config."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import MissingMandatoryValue

from reglab.config.expansion import check_expansion
from reglab.config.fingerprint import fingerprint
from reglab.config.instantiate import build
from reglab.config.job_request import BLOCK, JOB, SWEEP, JobRequest
from reglab.core.errors import UserError
from reglab.measures import score_name
from reglab.regularizers import Cocktail, Regularizer
from reglab.regularizers.weight_average import BY_OPTIMIZER

_CALLED = re.compile(r"\$\{\s*([^\s{}:]+)\s*:")  # the resolver of an interpolation


def plain(config: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """Return a config as plain containers, which can be stored anywhere.

    Args:
        config: A composed config.
        resolve: Whether interpolations are resolved.

    Raises:
        UserError: Naming a missing value.
    """
    try:
        content = OmegaConf.to_container(config, resolve=resolve, throw_on_missing=resolve)
    except Exception as error:
        raise UserError(f"config: {_reason(error)}") from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def recorded_params(config: DictConfig) -> dict[str, Any]:
    """Return the config for the record: interpolations stay as they are written, since they may
    name a secret.
    """
    return plain(config, resolve=False)


def resolved(recorded: Mapping[str, Any], key: str) -> Any:
    """Return the value of ``key`` in a recorded config, its interpolations resolved now.

    Raises:
        UserError: For one that cannot be, such as a variable that is not set in this environment,
            and for one that calls a function of this program: the config may be somebody else's.
    """
    for called in _CALLED.findall(str(dict(recorded).get(key.partition(".")[0]))):
        if not called.startswith("oc."):
            raise UserError(f"config of the run, {key}: ${{{called}:...}} is not allowed in a file; write its value")
    check_expansion(recorded)
    try:
        with _resolvers_of_omegaconf():  # also for what the value refers to elsewhere in the config
            node = OmegaConf.select(OmegaConf.create(dict(recorded)), key)
            return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except Exception as error:
        raise UserError(f"config of the run, {key}: {_reason(error)}") from error


@contextmanager
def _resolvers_of_omegaconf() -> Iterator[None]:
    """Let interpolations call OmegaConf's own functions alone inside the context."""
    before = BaseContainer._resolvers
    BaseContainer._resolvers = {name: function for name, function in before.items() if name.startswith("oc.")}
    try:
        yield
    finally:
        BaseContainer._resolvers = before


def build_cocktail(nodes: Mapping[str, Any] | None, seed: int, task: str) -> Cocktail:
    """Return the cocktail of a config's ``regularizer`` node: members by name, the first innermost.

    Args:
        nodes: Config nodes by name; None for none.
        seed: Of the random draws.
        task: Of the data.
    """
    members = {}
    for name, node in (nodes or {}).items():
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise UserError(
                f"regularizer.{name} is not a regularizer: choose it by regularizer=[{name}], or give it a _target_"
            )
        members[name] = build(node, Regularizer, f"regularizer.{name}")
    return Cocktail(members, seed, task)


def main_strength(cocktail: Cocktail) -> tuple[float | None, int]:
    """Return the first member's main number and whether larger (+1) or smaller (-1) is stronger."""
    for _, member in cocktail.named_regularizers():
        if key := _main_number(member):
            return float(getattr(member, key)), member.stronger
    return None, 1


def directions(cocktail: Cocktail) -> dict[str, int]:
    """Return the config key of each number that regularizes more the larger (+1) or the smaller (-1)
    it is.
    """
    found: dict[str, int] = {}
    for name, member in cocktail.named_regularizers():
        main = {_main_number(member): member.stronger}
        found |= {f"regularizer.{name}.{key}": sign for key, sign in (main | dict(member.directions)).items() if key}
    return found


def strengths(cocktail: Cocktail) -> dict[str, float]:
    """Return each member's main number as a metric, by which a store can sort and filter runs.

    Params and tags are texts there: ``"0.001" < "1e-4"``.
    """
    keys = {name: _main_number(member) for name, member in cocktail.named_regularizers()}
    return {
        f"regularizer/{name}/{key}": float(getattr(member, key))
        for name, member in cocktail.named_regularizers()
        if (key := keys[name])
    }


def _main_number(member: Regularizer) -> str:
    return next((key for key in ("strength", "patience") if hasattr(member, key)), "")


def tags(
    config: Mapping[str, Any], cocktail: Cocktail, task: Any, digest: str, request: JobRequest | None = None
) -> dict[str, str]:
    """Return the tags of a job's run; ``request``: of the sweep that it belongs to."""
    tagged = cocktail_tags(cocktail)
    return tagged | {
        "reglab.seed": str(config["seed"]),
        "reglab.task": task or "",
        "reglab.score": score_name(task) if task else "loss",
        "reglab.fingerprint": fingerprint(config, digest, request.trail if request else None),
        SWEEP: "",
        BLOCK: tagged["reglab.regularizer"],
        JOB: "",
        **(request.tags() if request else {}),
    }


def cocktail_tags(cocktail: Cocktail) -> dict[str, str]:
    """Return the tags with a run's regularizers and strength."""
    strength, stronger = main_strength(cocktail)
    names = [name for name, _ in cocktail.named_regularizers()]
    return {
        "reglab.kind": "job",
        "reglab.regularizer": "+".join(name for name in names if name != BY_OPTIMIZER) or "none",
        "reglab.strength": "" if strength is None else f"{strength:g}",
        "reglab.stronger": str(stronger),
        "reglab.directions": json.dumps(directions(cocktail)),
    }


def run_name(config: Mapping[str, Any], tagged: Mapping[str, str]) -> str:
    """Return the run's name: the user's, or regularizer, strength and seed."""
    if config.get("name"):
        return str(config["name"])
    return " ".join(
        part for part in (tagged["reglab.regularizer"], tagged["reglab.strength"], f"seed {config['seed']}") if part
    )


def _reason(error: Exception) -> str:
    """Return OmegaConf's reason in one line, with the whole key, which it writes on another."""
    key = getattr(error, "full_key", None)
    reason = str(error).splitlines()[0]
    if isinstance(error, MissingMandatoryValue) and key:
        return f"{key} is not set: give {key}=..."
    return f"{key}: {reason}" if key and str(key) not in reason else reason
