"""The store that a configuration names: is it the user's choice, or a file's?"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reglab.config.paths import conf_dir
from reglab.config.yaml_file import read_mapping
from reglab.tracking import TrackingSettings
from reglab.tracking.environment import check_variables
from reglab.tracking.settings import absolute_uri
from reglab.tracking.store_gate import OPTION, check_store, name_store

TRACKING_URI = "tracking.uri"


def name_given_stores(config: DictConfig, overrides: Sequence[str]) -> None:
    """Note the stores that the user named: on the command line, or in the built-in configuration.

    Args:
        config: Composed from it.
        overrides: Of the command line.
    """
    for uri in _built_in():
        name_store(absolute_uri(uri, Path.cwd()))
    settings = _settings(config) if overrides else None
    if settings and any(_names(override, "uri") for override in overrides):
        name_store(settings.uri)
    if settings and any(_names(override, "artifacts") for override in overrides):
        name_store(settings.artifacts)


def check_new_run(config: DictConfig) -> None:
    """Raise UserError for a variable of MLflow that a new run cannot follow."""
    settings = _settings(config)
    if settings is not None and settings.backend != "none":
        check_variables(OmegaConf.select(config, "tracking.experiment"))


def check_configured_store(config: DictConfig, folder: Path, option: str = OPTION) -> None:
    """Raise UserError where a file alone names the store that the runs of ``config`` go to.

    Args:
        config: Composed, or read back from a run.
        folder: Of the run, or the working folder.
        option: What the user types before the address to name it.
    """
    settings = _settings(config)
    if settings is not None and settings.backend == "mlflow":
        check_store(settings.uri, folder, option)


def _settings(config: DictConfig) -> TrackingSettings | None:
    node = OmegaConf.select(config, "tracking")
    if not isinstance(node, DictConfig):
        return None
    content: Any = OmegaConf.to_container(node, resolve=True)
    return TrackingSettings.from_config(content)


def _names(override: str, setting: str) -> bool:
    key, _, value = override.partition("=")
    name = key.lstrip("+")
    return name == f"tracking.{setting}" or (name == "tracking" and setting in value)


def _built_in() -> Iterator[str]:
    for file in sorted((conf_dir() / "tracking").glob("*.yaml")):
        node = read_mapping(file)
        uri = node.get("uri") if isinstance(node, Mapping | DictConfig) else None
        if isinstance(uri, str):
            yield uri
