"""Single run or sweep: resolve Hydra's run mode and report errors in the configuration."""

from hydra._internal.hydra import Hydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig

from reglab.config.error_messages import override_key
from reglab.core.errors import UserError


def resolve_mode(hydra: Hydra, name: str, overrides: list[str], multirun: bool) -> tuple[RunMode, list[str]]:
    """Return the mode, and the overrides that Hydra then needs.

    Hydra composes a sweep once without its swept keys. ``-m regularizer=[l1],[l2,l1]
    regularizer.l1.strength=1e-3`` fails there, since no regularizer is chosen yet. Such an override
    is written as a sweep over one value, ``choice(1e-3)``, which Hydra leaves to the jobs, where it
    is checked again.

    Args:
        hydra: Hydra with its search path.
        name: The primary config.
        overrides: Of the command line.
        multirun: Whether ``-m`` was given.
    """
    remaining = list(overrides)
    first: ConfigCompositionException | None = None
    while True:
        try:
            config = hydra.compose_config(
                name, remaining, RunMode.MULTIRUN, with_log_configuration=False, validate_sweep_overrides=False
            )
            break
        except ConfigCompositionException as error:
            first = first or error
            index = _fixed_override(remaining, override_key(error))
            if index is None:
                raise
            key, _, value = remaining[index].partition("=")
            remaining[index] = f"{key}=choice({value})"
    mode = RunMode.MULTIRUN if multirun else config.hydra.mode or RunMode.RUN
    if first is not None and not (mode == RunMode.MULTIRUN and _varies_groups(config, hydra, overrides)):
        raise first
    single_run = "hydra.mode=RUN" in overrides  # one run of an experiment that is a sweep
    if mode == RunMode.RUN and config.sweep.blocks and config.sweep.parent is None and not single_run:
        raise UserError(
            "sweep.blocks describes a sweep: add -m (reglab train -m ...), or leave it out with sweep.blocks=[]"
        )
    if mode == RunMode.MULTIRUN and config.hydra.mode != mode:
        remaining.append("hydra.mode=MULTIRUN")
    return mode, remaining


def _fixed_override(overrides: list[str], key: str | None) -> int | None:
    for index, override in enumerate(overrides):
        name, equals, value = override.partition("=")
        if equals and name == key and not value.startswith("choice(") and not name.startswith("hydra."):
            return index
    return None


def _varies_groups(config: DictConfig, hydra: Hydra, overrides: list[str]) -> bool:
    if config.sweep.blocks:
        return True
    names = {override.partition("=")[0] for override in overrides}
    return any(hydra.config_loader.get_group_options(name) for name in names if "." not in name)
