"""Resolve ``${hydra:...}`` by a config, and the folders that Hydra writes to by it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf


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


def folder_of(config: DictConfig, key: str) -> Path:
    """Return the folder at ``key`` of a config, such as ``hydra.run.dir``, resolved."""
    with hydra_config(config):
        return Path(str(OmegaConf.select(config, key)))


def names_of_hydra(config: DictConfig) -> tuple[str, ...]:
    """Return the names of what Hydra itself writes into a job's folder."""
    return str(config.hydra.output_subdir), f"{config.hydra.job.name}.log"
