"""``hydra/launcher=local``: jobs of a sweep on worker processes of this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
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


class LocalLauncher(Launcher):
    """Hands Hydra's jobs to ``reglab.launchers.local``."""

    def __init__(self, workers: int | None, threads: int, preload: Sequence[str]):
        self.workers, self.threads, self.preload = workers, threads, preload
        self.local: LocalRunner | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Start the fork server, which imports while the sweeper prepares."""
        from reglab.launchers.local import LocalRunner  # late: Hydra imports every plugin, also for other programs

        self.context, self.task, self.config = hydra_context, task_function, config
        self.local = LocalRunner(self.workers, self.threads, list(self.preload))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and return how each ended."""
        from reglab.launchers.compose import JobGroup

        assert self.local is not None
        groups = [JobGroup((job,), (tuple(each),)) for job, each in enumerate(job_overrides, initial_job_idx)]
        return self.local.launch(groups, self.context, self.config, self.task)
