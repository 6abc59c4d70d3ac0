"""Compose many jobs that differ mostly in values: what the same group choices give is composed once.

Hydra needs 50-100 ms for a job, and a sweep composes each one twice (once to check it, once to run it). Values do not
change what is loaded: Hydra itself applies them to the composed config afterwards, which takes 2 ms.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, open_dict


class Composer:
    """Composes jobs as ``ConfigLoader.load_sweep_config`` does, with the same result and the same errors."""

    def __init__(self, loader: ConfigLoader, master: DictConfig):
        self._loader = loader
        self._master = master
        self._parser = OverridesParser.create()
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._is_group: dict[str, bool] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return the config of the job with these overrides. Raises what Hydra raises."""
        parsed = self._parser.parse_overrides(list(overrides))
        if not isinstance(self._loader, ConfigLoaderImpl) or any(override.is_sweep_override() for override in parsed):
            return self._loader.load_sweep_config(self._master, list(overrides))
        loads = tuple(override.input_line or "" for override in parsed if self._loads(override))
        if loads not in self._composed:
            self._composed[loads] = self._loader.load_sweep_config(self._master, list(loads))
        config = copy.deepcopy(self._composed[loads])
        values = [override for override in parsed if not self._loads(override)]
        ConfigLoaderImpl._apply_overrides_to_config(
            [value for value in values if not value.is_hydra_override()], config
        )
        with open_dict(config.hydra):
            config.hydra.overrides.task = [each.input_line for each in parsed if not each.is_hydra_override()]
            config.hydra.job.override_dirname = ",".join(sorted(config.hydra.overrides.task))
        return config

    def _loads(self, override: Override) -> bool:
        """Whether an override may change which files are loaded, or what Hydra itself does."""
        key = override.key_or_group
        if key not in self._is_group:
            known = bool(self._loader.list_groups(key) or self._loader.get_group_options(key))
            self._is_group[key] = known or override.package is not None or override.is_hydra_override()
        return self._is_group[key] or override.is_delete()


@dataclass(frozen=True)
class Order:
    """One job, as Hydra's launchers get it: its number in the sweep and its overrides."""

    job: int
    overrides: tuple[str, ...]


def job_config(composer: Composer, order: Order) -> DictConfig:
    """Return the composed config of a job, its number filled in."""
    config = composer.compose(order.overrides)
    with open_dict(config):
        config.hydra.job.id = str(order.job)
        config.hydra.job.num = order.job
    return config


def job_folder(config: DictConfig) -> Path:
    """Return the folder of the job with this config, absolute."""
    with hydra_config(config):  # the folder's name may hold ${hydra:...}
        return (Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)).absolute()


@contextmanager
def hydra_config(config: DictConfig) -> Iterator[None]:
    """Resolve ``${hydra:...}`` by this config inside the context."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    try:
        yield
    finally:
        holder.cfg = before
