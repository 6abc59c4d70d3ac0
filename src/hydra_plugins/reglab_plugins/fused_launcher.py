"""``hydra/launcher=fused``: jobs that differ only in numbers train as packs, others alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.reglab_plugins.launcher import LocalLauncherConf

if TYPE_CHECKING:
    from reglab.launchers.fused import PackRunner


@dataclass
class FusedLauncherConf(LocalLauncherConf):
    """Settings of ``hydra/launcher=fused``, beside those of ``local``.

    Attributes:
        pack: The most jobs that train together; null: as many as fit into memory.
        compile: false, true (before the first step), or null and auto (while it trains, where the
            sweep is large enough).
        compile_seconds: After which compilation is given up, and the pack trains uncompiled.
        always: Fuse also where training one by one would be faster.
    """

    _target_: str = "hydra_plugins.reglab_plugins.fused_launcher.FusedLauncher"
    pack: int | None = None
    compile: Any = None
    compile_seconds: float = 120.0
    always: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="fused", node=FusedLauncherConf, provider="reglab")


class FusedLauncher(Launcher):
    """Hands Hydra's jobs to ``reglab.launchers.fused``."""

    def __init__(
        self,
        workers: int | None,
        threads: int,
        preload: Sequence[str],
        pack: int | None,
        compile: bool | str | None,  # noqa: A002 - as the setting is called
        compile_seconds: float,
        always: bool,
    ):
        self.workers, self.threads, self.preload = workers, threads, preload
        self.pack, self.compile, self.compile_seconds, self.always = pack, compile, compile_seconds, always
        self.fused: PackRunner | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Start the fork server, which imports while the sweeper prepares."""
        from reglab.launchers.fused import PackRunner  # late: Hydra imports every plugin, also for other programs
        from reglab.launchers.local import LocalRunner

        self.context, self.task, self.config = hydra_context, task_function, config
        self.fused = PackRunner(
            LocalRunner(self.workers, self.threads, list(self.preload)),
            self.pack,
            self.compile,
            self.always,
            self.compile_seconds,
        )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and return how each ended."""
        assert self.fused is not None
        jobs = dict(enumerate(job_overrides, initial_job_idx))
        return self.fused.launch(jobs, self.context, self.config, self.task)
