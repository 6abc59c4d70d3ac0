"""Hydra's config loader, which checks where files come from and what they are before it reads them."""

from copy import copy
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath, SearchPathElement
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig

from reglab.config.trust import check_given
from reglab.config.yaml_file import read_mapping
from reglab.core.errors import UserError

_LISTED = "hydra.searchpath"  # how Hydra begins the provider of what a config or an override lists there
_BUILT_IN = "main"  # and reglab's own folder
_SCHEMES = ("file", "pkg", "structured")


def create_hydra(search_path: ConfigSearchPath) -> Hydra:
    """Return Hydra, as ``Hydra.create_main_hydra2`` does, with a loader that checks what it reads.

    Args:
        search_path: Where it looks for files.
    """
    hydra = Hydra("reglab", CheckedLoader(search_path))
    GlobalHydra.instance().initialize(hydra)
    return hydra


class CheckedLoader(ConfigLoaderImpl):
    """Composes configs of files that somebody else may have written.

    Args:
        config_search_path: Where it looks for them.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        self.config_search_path = config_search_path
        self.repository = CheckedRepository(config_search_path)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose as Hydra does; an environment variable to be copied that is not there is named."""
        try:
            return super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        except KeyError as error:
            raise UserError(f"hydra.job.env_copy: the environment has no variable {error}: leave it out") from error

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """Return what a config group holds; without the copy of all places that Hydra makes for each group."""
        if config_name is None and not overrides:
            return list(self.repository.get_group_options(group_name, results_filter))
        return list(super().get_group_options(group_name, results_filter, config_name, overrides))


class CheckedRepository(ConfigRepository):
    """The places of config files, each checked before it is opened: opening a package imports it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "CheckedRepository":
        return copy(self)  # each composition copies it, and may then have sources of its own

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Open the places of a search path.

        Raises:
            UserError: ``hydra.searchpath`` lists a package that is not trusted, or another kind of
                place.
        """
        self.sources: list[ConfigSource] = [self._opened(place) for place in config_search_path.get_path()]

    def _opened(self, place: SearchPathElement) -> ConfigSource:
        path, provider = str(place.path), str(place.provider)
        scheme = self._get_scheme(path)
        if scheme == "file":
            return FileSource(provider, path)
        if provider.startswith(_LISTED):
            if scheme not in _SCHEMES:
                raise UserError(f"hydra.searchpath: {path} is neither a folder nor a package: leave it out")
            if scheme == "pkg":
                check_given(path.removeprefix("pkg://").replace("/", ".").strip("."), f"hydra.searchpath: {path}")
        source: Any = SourcesRegistry.instance().resolve(scheme)
        opened: ConfigSource = source(provider, path)
        return opened


class FileSource(FileConfigSource):
    """A folder of config files, which stay inside it."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a config file's content.

        Raises:
            UserError: It is more than plain data, or lies elsewhere.
        """
        if self.provider == _BUILT_IN:
            return super().load_config(config_path)
        path = Path(self.path, self._normalize_file_name(config_path))
        real = path.resolve()
        if not any(real.is_relative_to(folder) for folder in (Path(self.path).resolve(), Path.cwd())):
            raise UserError(f"{path} leads out of its folder, to {real}: put a copy of the file there")
        read_mapping(real)
        return super().load_config(config_path)
