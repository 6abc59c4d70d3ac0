"""``hydra/launcher=fused``: jobs that differ only in numbers train as packs, others alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.reglab_plugins.launcher import LocalLauncherConf
from reglab.launchers.request_launcher import Capabilities, RequestLauncher

if TYPE_CHECKING:
    from reglab.config.job_request import JobRequest
    from reglab.launchers.compose import Composer
    from reglab.launchers.events import Ended
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


class FusedLauncher(RequestLauncher):
    """Hands Hydra's jobs to ``reglab.launchers.fused``."""

    capabilities: ClassVar[Capabilities] = Capabilities(waits=True, fuses=True, shows_progress=True)

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

        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.fused = PackRunner(
            LocalRunner(self.workers, self.threads, list(self.preload)),
            self.pack,
            self.compile,
            self.always,
            self.compile_seconds,
        )

    def run(self, requests: "Sequence[JobRequest]", composer: "Composer") -> "Mapping[int, Ended]":
        """Run the jobs and return how each ended, by number."""
        assert self.fused is not None
        return self.fused.launch(requests, composer, self)
