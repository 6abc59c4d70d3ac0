"""``hydra/sweeper=blocks``: expand blocks of regularizers and seeds, check, run the jobs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class BlocksSweeperConf:
    """Settings of ``hydra/sweeper=blocks``.

    Attributes:
        params: Swept keys of a config, as in Hydra's own sweeper; the command line overrides them.
    """

    _target_: str = "hydra_plugins.reglab_plugins.sweeper.BlocksSweeper"
    params: dict[str, str] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="blocks", node=BlocksSweeperConf, provider="reglab")


class BlocksSweeper(Sweeper):
    """Expands blocks, seeds and the command line, and runs the jobs with any launcher."""

    def __init__(self, params: dict[str, str]):
        self.params = params
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra passes, and set up the configured launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str], resume: Path | None = None) -> Any:
        """Run the sweep and return its ``SweepResult``; ``resume``: the folder of an earlier one."""
        from reglab.sweeps.sweep import run_sweep  # late: Hydra imports every plugin, also for other programs

        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        given = {argument.partition("=")[0] for argument in arguments}
        brought = [f"{key}={value}" for key, value in self.params.items() if key not in given]
        return run_sweep(
            [*brought, *arguments],
            self.config,
            self.hydra_context.config_loader,
            self.launcher,
            resume,
        )
