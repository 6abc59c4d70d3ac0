"""``hydra/launcher=local``: jobs of a sweep on worker processes of this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from reglab.launchers.request_launcher import Capabilities, RequestLauncher

if TYPE_CHECKING:
    from reglab.config.job_request import JobRequest
    from reglab.launchers.compose import Composer
    from reglab.launchers.events import Ended
    from reglab.launchers.local import LocalRunner


@dataclass
class LocalLauncherConf:
    """Settings of ``hydra/launcher=local``.

    Attributes:
        workers: Jobs at a time; null: as many as there are physical cores for their threads.
        threads: CPU threads of each job.
        preload: Modules that workers find imported.
    """

    _target_: str = "hydra_plugins.reglab_plugins.launcher.LocalLauncher"
    workers: int | None = None
    threads: int = 1
    preload: list[str] = field(default_factory=lambda: ["reglab.training.job", "reglab.tracking.mlflow.runs"])


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConf, provider="reglab")


class LocalLauncher(RequestLauncher):
    """Hands Hydra's jobs to ``reglab.launchers.local``."""

    capabilities: ClassVar[Capabilities] = Capabilities(waits=True, shows_progress=True)

    def __init__(self, workers: int | None, threads: int, preload: Sequence[str]):
        self.workers, self.threads, self.preload = workers, threads, preload
        self.local: LocalRunner | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Start the fork server, which imports while the sweeper prepares."""
        from reglab.launchers.local import LocalRunner  # late: Hydra imports every plugin, also for other programs

        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.local = LocalRunner(self.workers, self.threads, list(self.preload))

    def run(self, requests: "Sequence[JobRequest]", composer: "Composer") -> "Mapping[int, Ended]":
        """Run the jobs and return how each ended, by number."""
        from reglab.config.pack_settings import PackSettings
        from reglab.launchers.compose import JobGroup

        assert self.local is not None
        groups = [JobGroup((request,)) for request in requests]
        return self.local.launch(groups, self.assignment(composer, PackSettings(threads=self.threads)))
