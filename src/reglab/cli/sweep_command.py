"""The command of a sweep as its folder recorded it, which somebody else may have written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from reglab.config.fingerprint import REMOVED_KEYS
from reglab.config.yaml_file import read_mapping
from reglab.core.errors import UserError

SWEEP = "multirun.yaml"
_HYDRA_KEYS = ("hydra.launcher", "hydra.sweep", "hydra.mode")  # Hydra's keys that a file may set
# Trust is given again by the user, not by a file.
_DROPPED = ("sweep.again", "trust", *(f"measure.{key}" for key in REMOVED_KEYS))


@dataclass(frozen=True)
class SweepCommand:
    """A sweep's command.

    Attributes:
        recorded: Its overrides, each with the key or group that it is about, dotted.
        config_name, config_dir: Its options of these names.
    """

    recorded: Sequence[tuple[str, str]]
    config_name: str | None
    config_dir: str | None

    def overrides(self, given: Sequence[str]) -> list[str]:
        """Return the overrides of the sweep, those that are given now in place of earlier ones."""
        keys = {key for key, _ in map(_parsed, given)}
        return [*(text for key, text in self.recorded if key not in keys), *given]


def read_command(path: Path) -> SweepCommand:
    """Return the command that ``multirun.yaml`` in a sweep's folder holds.

    Raises:
        UserError: It is no such file, or sets what a file may not.
    """
    content: Any = OmegaConf.to_container(read_mapping(path), resolve=False)  # secrets stay as written
    try:
        hydra = content["hydra"]
        texts = [*hydra["overrides"]["hydra"], *hydra["overrides"]["task"]]
        name, sources = hydra["job"]["config_name"], list(hydra["runtime"]["config_sources"])
        folders = [source["path"] for source in sources if source["provider"] == "command-line"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not the record of a sweep ({error!r}): run its command again") from error
    if not all(isinstance(text, str) for text in (*texts, *folders, name or "")):
        raise UserError(f"{path} is not the record of a sweep: run its command again")
    recorded = [(key, text) for key, text in map(_parsed, texts) if key not in _DROPPED]
    for key, text in recorded:
        if key.partition(".")[0] == "hydra" and not any(f"{key}.".startswith(f"{known}.") for known in _HYDRA_KEYS):
            raise UserError(f"the sweep was started with {text}, which a file may not set: run its command again")
    for folder in folders:
        if not Path(folder).resolve().is_relative_to(Path.cwd()):
            raise UserError(f"the sweep was started with --config-dir {folder}: run its command again")
    return SweepCommand(recorded, None if name == "train" else name, folders[-1] if folders else None)


def _parsed(text: str) -> tuple[str, str]:
    """Return an override with the key or group that it is about, however it is written."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise UserError(f"the sweep was started with {text!a}, which cannot be read: run its command again") from error
    return override.key_or_group.replace("/", "."), text
