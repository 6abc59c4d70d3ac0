"""Compose job configs fast: configs with equal group choices share one cached base.

Hydra needs 50-100 ms for a job, and a sweep composes each one twice (once to check it, once to run
it). Values do not change what is loaded: Hydra itself applies them to the composed config
afterwards, which takes a millisecond.
"""

import copy
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from reglab.config.hydra_context import hydra_config, names_of_hydra
from reglab.config.job_request import JobRequest
from reglab.config.validate import check_config
from reglab.tracking.own_folder import check_own_folder

# Parts of Hydra's node that only Hydra itself uses.
_FOR_HYDRA = (
    *("run", "help", "hydra_help", "hydra_logging", "job_logging", "launcher", "sweeper", "env", "callbacks"),
    *("searchpath", "verbose"),
)


class Composer:
    """Composes jobs as ``ConfigLoader.load_sweep_config`` does, with equal results and errors.

    Args:
        loader: Hydra's.
        master: The config of the whole sweep.
        bases: Bases that another composer of the same sweep has composed.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig, bases: "Bases | None" = None):
        self.loader, self.master = loader, master
        self.bases: Bases = dict(bases or {})
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._loads_files: dict[str, bool] = {}
        self._resolved: dict[tuple[str, ...], Mapping[str, Any]] = {}

    def compose(self, overrides: Sequence[str], lean: bool = False) -> DictConfig:
        """Return the config of the job with these overrides.

        Args:
            overrides: Of the job.
            lean: Leave out the parts of Hydra's node that only Hydra's own job runner needs.

        Raises:
            HydraException: As Hydra raises it.
        """
        parsed = self._parse(overrides)
        if not self._can_patch(parsed):
            return self._compose_checked(overrides)
        config = self._patch(parsed, "lean" if lean else "whole")
        with open_dict(config.hydra):
            task = [str(each.input_line) for each in parsed if not each.is_hydra_override()]
            config.hydra.overrides.task = task
            config.hydra.job.override_dirname = ",".join(sorted(task))  # reading it back would resolve
        return config

    def resolved(self, overrides: Sequence[str]) -> Mapping[str, Any]:
        """Return the job's resolved config as plain containers, without ``hydra`` and ``sweep``.

        Cached and shared by the check of a sweep and its launcher: do not modify it.

        Raises:
            HydraException: The job cannot be composed.
            OmegaConfBaseException: A value is missing (``???``) or cannot be resolved.
        """
        key = tuple(overrides)
        if key not in self._resolved:
            parsed = self._parse(key)
            content = _raw(self._patch(parsed, "bare")) if self._can_patch(parsed) else {}
            job = {name: value for name, value in content.items() if name not in ("hydra", "sweep")}
            self._resolved[key] = job if job and _needs_no_resolving(job) else _resolve(self.compose(key))
        return self._resolved[key]

    def loading(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Return those of a job's overrides that decide which files its config is composed of."""
        return self._loading(self._parse(overrides))

    def _loading(self, parsed: Sequence[Override]) -> tuple[str, ...]:
        return tuple(override.input_line or "" for override in parsed if self._changes_files(override))

    def _parse(self, overrides: Sequence[str]) -> list[Override]:
        for override in overrides:
            if override not in self._parsed:
                self._parsed[override] = self._parser.parse_overrides([override])[0]
        return [self._parsed[override] for override in overrides]

    def _can_patch(self, parsed: Sequence[Override]) -> bool:
        return isinstance(self.loader, ConfigLoaderImpl) and not any(each.is_sweep_override() for each in parsed)

    def _patch(self, parsed: Sequence[Override], form: str) -> DictConfig:
        """Return the config, but for what Hydra's own node says about the job.

        A base is kept pickled: reading it back takes a fifth of the time of a deep copy.
        """
        loading = self._loading(parsed)
        if loading not in self.bases:
            self.bases[loading] = _forms(self._compose_checked(loading))
        patched: DictConfig = pickle.loads(self.bases[loading][form])
        values = [override for override in parsed if not self._changes_files(override)]
        ConfigLoaderImpl._apply_overrides_to_config(values, patched)
        return patched

    def _compose_checked(self, overrides: Sequence[str]) -> DictConfig:
        """Return what Hydra composes; files that a job adds are checked as the sweep's own are."""
        config = self.loader.load_sweep_config(self.master, list(overrides))
        check_config(config)
        return config

    def _changes_files(self, override: Override) -> bool:
        """Whether an override may change which files are loaded, or what Hydra itself does."""
        key = override.key_or_group
        if key not in self._loads_files:
            known = bool(self.loader.list_groups(key) or self.loader.get_group_options(key))
            self._loads_files[key] = known or override.package is not None or override.is_hydra_override()
        return self._loads_files[key] or override.is_delete()


Bases = dict[tuple[str, ...], Mapping[str, bytes]]  # overrides that load files -> see `_forms`


@dataclass(frozen=True)
class JobGroup:
    """Jobs that one worker process runs together: a single one, or several that train fused.

    Attributes:
        requests: Of the jobs.
        after: Jobs of other groups that must have ended before this group starts.
    """

    requests: tuple[JobRequest, ...]
    after: tuple[int, ...] = ()

    @property
    def jobs(self) -> tuple[int, ...]:
        """The numbers of the jobs."""
        return tuple(request.number for request in self.requests)

    def subset(self, jobs: Sequence[int]) -> "JobGroup":
        """Return the group of some of these jobs."""
        request_of = {request.number: request for request in self.requests}
        return JobGroup(tuple(request_of[job] for job in jobs), self.after)


def job_config(composer: Composer, request: JobRequest, lean: bool = False) -> DictConfig:
    """Return the composed config of a job, its number filled in.

    Args:
        composer: Of the sweep.
        request: Of the job.
        lean: As in ``Composer.compose``; the job's folder is filled in too.
    """
    config = composer.compose(request.overrides, lean)
    with open_dict(config):
        config.hydra.job.id = str(request.number)
        config.hydra.job.num = request.number
        if lean and _unresolved(config, "subdir") == "${hydra.job.num}":
            config.hydra.sweep.subdir = str(request.number)
    if lean:
        folder = str(_job_folder(config))  # Hydra makes its node read-only while it resolves by it
        with read_write(config.hydra):
            config.hydra.runtime.output_dir = folder
    return config


def located(composer: Composer, request: JobRequest) -> JobRequest:
    """Return the request with the folder in which Hydra puts the job's output.

    Raises:
        UserError: It holds other files than a run's.
    """
    config = job_config(composer, request, lean=True)
    folder = Path(config.hydra.runtime.output_dir)
    check_own_folder(folder, "hydra.sweep.subdir", names_of_hydra(config))
    return replace(request, folder=folder)


def _job_folder(config: DictConfig) -> Path:
    plain = [_unresolved(config, "dir"), _unresolved(config, "subdir")]
    if _needs_no_resolving(plain):  # resolving takes two milliseconds, and a pack has many jobs
        return Path(*plain).absolute()
    with hydra_config(config):  # the folder's name may hold ${hydra:...}
        return (Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)).absolute()


def _forms(config: DictConfig) -> dict[str, bytes]:
    """Return a base pickled: whole; bare, without ``hydra``; lean, with only a part of it."""
    bare, lean = copy.deepcopy(config), copy.deepcopy(config)
    with open_dict(bare):
        del bare["hydra"]
    for key in _FOR_HYDRA:
        del lean.hydra.__dict__["_content"][key]  # OmegaConf deletes no key of a typed node
    folder = _unresolved(lean, "dir")
    if folder.count("${") == folder.count("${now:"):  # other interpolations may differ by job
        with open_dict(lean):
            lean.hydra.sweep.dir = str(config.hydra.sweep.dir)
    return {"whole": pickle.dumps(config), "bare": pickle.dumps(bare), "lean": pickle.dumps(lean)}


def _unresolved(config: DictConfig, key: str) -> str:
    """Return a part of the job's folder as written, its interpolations unresolved."""
    return str(config.hydra.sweep._get_node(key)._value())


def _raw(node: Any) -> Any:
    """Return a config's content as plain containers, unresolved; 30 times as fast as OmegaConf."""
    content = getattr(node, "_content", None)
    if isinstance(content, dict):
        return {key: _raw(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_raw(value) for value in content]
    return node._value()


def _needs_no_resolving(content: Any) -> bool:
    """Whether no value is an interpolation or missing."""
    if isinstance(content, dict):
        return all(_needs_no_resolving(value) for value in content.values())
    if isinstance(content, list):
        return all(_needs_no_resolving(value) for value in content)
    return not isinstance(content, str) or ("${" not in content and content != "???")


def _resolve(config: DictConfig) -> dict[str, Any]:
    return {
        str(key): OmegaConf.to_container(config[key], resolve=True, throw_on_missing=True)
        if OmegaConf.is_config(config._get_node(key))
        else config[key]
        for key in config
        if key not in ("hydra", "sweep")
    }
