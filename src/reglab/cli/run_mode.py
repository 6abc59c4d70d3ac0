"""Compose the config of a command, and tell by it whether it is a single run or a sweep."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig

from reglab.config.error_messages import override_key
from reglab.config.hydra_node import refuse_search
from reglab.core.errors import UserError


def compose_command(hydra: Hydra, name: str, overrides: list[str], multirun: bool) -> tuple[RunMode, DictConfig]:
    """Return the mode of a command and its config, composed once unless it is wrong or a sweep.

    Hydra composes a sweep without its swept keys. ``-m regularizer=[l1],[l2,l1]
    regularizer.l1.strength=1e-3`` fails there, since no regularizer is chosen yet. Such an override
    is written as a sweep over one value, ``choice(1e-3)``, which Hydra leaves to the jobs, where it
    is checked again.

    Args:
        hydra: Hydra with its search path.
        name: The primary config.
        overrides: Of the command line.
        multirun: Whether ``-m`` was given.

    Raises:
        ConfigCompositionException: As Hydra raises it.
        UserError: ``sweep.blocks``, or another setting of a sweep, without a sweep.
    """
    for override in overrides:  # first: with settings of its own, Hydra ends by an error of OmegaConf's
        key, _, value = override.partition("=")
        if key == "hydra/sweeper":
            refuse_search(value)
    remaining, compose_mode = list(overrides), RunMode.MULTIRUN if multirun else RunMode.RUN
    first: ConfigCompositionException | None = None
    while True:
        try:
            config = hydra.compose_config(name, remaining, compose_mode, validate_sweep_overrides=False)
            break
        except ConfigCompositionException as error:
            first = first or error
            index = _fixed_override(remaining, override_key(error))
            if index is not None:
                key, _, value = remaining[index].partition("=")
                remaining[index] = f"{key}=choice({value})"
            elif compose_mode == RunMode.RUN:
                compose_mode = RunMode.MULTIRUN  # which may leave a group to the jobs
            else:
                raise
    mode = RunMode.MULTIRUN if multirun else config.hydra.mode or RunMode.RUN
    if first is not None and not (mode == RunMode.MULTIRUN and _varies_groups(config, hydra, overrides)):
        raise first
    single_run = "hydra.mode=RUN" in overrides  # one run of an experiment that is a sweep
    if mode == RunMode.RUN and _blocks(config) and not single_run:
        raise UserError(
            "sweep.blocks describes a sweep: add -m (reglab train -m ...), or leave it out with sweep.blocks=[]"
        )
    if not single_run:
        _check_effect(overrides, mode)
    parsed = OverridesParser.create(hydra.config_loader).parse_overrides(remaining)
    ConfigLoaderImpl.validate_sweep_overrides_legal(parsed, mode, from_shell=True)
    if config.hydra.mode != mode:
        amend(config, [f"hydra.mode={mode.name}"])
    return mode, config


def _blocks(config: DictConfig) -> Any:
    """Return ``sweep.blocks`` of a config that has not been checked yet."""
    sweep: Any = config.get("sweep")
    return sweep.get("blocks") if isinstance(sweep, DictConfig) else None


def _check_effect(overrides: Sequence[str], mode: RunMode) -> None:
    """Refuse what a user gives for a sweep with a command that is none, and the other way round."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~").replace("/", ".")
        if mode == RunMode.MULTIRUN and key.startswith("hydra.run."):
            raise UserError(f"{override} is about one run, and this is a sweep: give hydra.sweep.dir, or leave it out")
        if mode == RunMode.RUN and key.startswith(("sweep.", "hydra.launcher", "hydra.sweeper", "hydra.sweep.")):
            raise UserError(
                f"{override} is about sweeps, and this is one run: add -m for a sweep (reglab train -m ...), or leave "
                "it out"
            )


def amend(config: DictConfig, overrides: Sequence[str]) -> None:
    """Apply further overrides of Hydra's own node to a composed config, as if they had been given.

    Args:
        config: Composed.
        overrides: Of values, such as ``hydra.run.dir=FOLDER``.
    """
    ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(list(overrides)), config)
    config.hydra.overrides.hydra.extend(overrides)


def _fixed_override(overrides: list[str], key: str | None) -> int | None:
    for index, override in enumerate(overrides):
        name, equals, value = override.partition("=")
        if equals and name == key and not value.startswith("choice(") and not name.startswith("hydra."):
            return index
    return None


def _varies_groups(config: DictConfig, hydra: Hydra, overrides: list[str]) -> bool:
    if _blocks(config):
        return True
    names = {override.partition("=")[0] for override in overrides}
    return any(hydra.config_loader.get_group_options(name) for name in names if "." not in name)
