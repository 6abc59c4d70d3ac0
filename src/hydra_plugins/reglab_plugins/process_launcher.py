"""``hydra/launcher=process``: each job, or pack, in its own process, on its own GPUs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from reglab.launchers.request_launcher import Capabilities, RequestLauncher

if TYPE_CHECKING:
    from reglab.config.job_request import JobRequest
    from reglab.launchers.compose import Composer
    from reglab.launchers.events import Ended
    from reglab.launchers.fused import PackRunner
    from reglab.launchers.process import ProcessRunner


@dataclass
class ProcessLauncherConf:
    """Settings of ``hydra/launcher=process``; the last four as in ``fused``.

    Attributes:
        workers: Processes at a time; null: one per GPU, or as many as there are physical cores for
            their threads.
        threads: CPU threads of each.
        gpus: Which ones, such as [0,1]; null: all that are visible.
        timeout: Minutes that each may take; null: no limit.
        memory: GB that each may take; null: no limit.
        retries: How often a job resumes whose process was killed.
        pack: The most jobs that train together; 1 trains each job alone.
        compile: Whether packs are compiled.
        compile_seconds: After which compilation is given up.
        always: Fuse also where training one by one would be faster.
    """

    _target_: str = "hydra_plugins.reglab_plugins.process_launcher.ProcessLauncher"
    workers: int | None = None
    threads: int = 1
    gpus: Any = None
    timeout: float | None = None
    memory: float | None = None
    retries: int = 3
    pack: int | None = None
    compile: Any = None
    compile_seconds: float = 120.0
    always: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="process", node=ProcessLauncherConf, provider="reglab")


class ProcessLauncher(RequestLauncher):
    """Hands Hydra's jobs to ``reglab.launchers.process``, packed by ``reglab.launchers.fused``."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        waits=True, fuses=True, assigns_devices=True, shows_progress=True
    )

    def __init__(
        self,
        workers: int | None,
        threads: int,
        gpus: Any,
        timeout: float | None,
        memory: float | None,
        retries: int,
        pack: int | None,
        compile: bool | str | None,  # noqa: A002 - as the setting is called
        compile_seconds: float,
        always: bool,
    ):
        self.workers, self.threads, self.gpus = workers, threads, gpus
        self.timeout, self.memory, self.retries = timeout, memory, retries
        self.pack, self.compile, self.compile_seconds, self.always = pack, compile, compile_seconds, always
        self.processes: ProcessRunner | None = None
        self.fused: PackRunner | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the settings."""
        from reglab.launchers.exit_causes import Limits  # late: Hydra imports every plugin, also for other programs
        from reglab.launchers.fused import PackRunner
        from reglab.launchers.process import ProcessRunner

        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        limits = Limits(self.timeout, self.memory)
        self.processes = ProcessRunner(self.workers, self.threads, self.gpus, self.retries, limits)
        self.fused = PackRunner(self.processes, self.pack, self.compile, self.always, self.compile_seconds)

    def run(self, requests: "Sequence[JobRequest]", composer: "Composer") -> "Mapping[int, Ended]":
        """Run the jobs and return how each ended, by number."""
        assert self.processes is not None
        assert self.fused is not None
        self.processes.assign_gpus(requests, composer)
        return self.fused.launch(requests, composer, self)
