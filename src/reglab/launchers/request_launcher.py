"""``RequestLauncher``: base class of launchers that take typed job requests from a sweep.

Light: Hydra imports every launcher, also for other programs.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from reglab.config.job_request import JobRequest
    from reglab.config.pack_settings import PackSettings
    from reglab.launchers.compose import Composer
    from reglab.launchers.events import Ended
    from reglab.launchers.run_group import Assignment


@dataclass(frozen=True)
class Capabilities:
    """What a launcher can do beyond running jobs; what it cannot is refused before any starts.

    Attributes:
        waits: A job can wait for the end of another, which ``sweep.path`` needs.
        fuses: Jobs that differ in numbers only train as packs, and unfinished packs resume whole.
        assigns_devices: Each job gets the devices that it asks for, several too; else it has one.
        shows_progress: It shows the jobs while they run.
    """

    waits: bool = False
    fuses: bool = False
    assigns_devices: bool = False
    shows_progress: bool = False


class RequestLauncher(Launcher):
    """A launcher that takes requests, and tells how each job ended."""

    capabilities: ClassVar[Capabilities] = Capabilities()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra passes."""
        self.context, self.task, self.config = hydra_context, task_function, config

    @abstractmethod
    def run(self, requests: "Sequence[JobRequest]", composer: "Composer") -> "Mapping[int, Ended]":
        """Run the jobs and return how each ended, by number.

        Args:
            requests: Of the jobs, with their folders.
            composer: Of the sweep.

        Raises:
            Interrupted: By Ctrl-C or SIGTERM.
        """

    def assignment(self, composer: "Composer", settings: "PackSettings") -> "Assignment":
        """Return what the workers of a sweep are given.

        Args:
            composer: Of the sweep.
            settings: Of packs.
        """
        from reglab.config.trust import trusted_packages
        from reglab.launchers import task
        from reglab.launchers.run_group import Assignment
        from reglab.tracking.store_gate import named_stores

        return Assignment(
            self.context,
            self.config,
            self.task,
            task.train_pack,
            settings,
            composer.bases,
            tuple(trusted_packages()),
            named_stores(),
        )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of another sweeper than ``blocks``, which knows overrides only."""
        from reglab.config.job_request import decode
        from reglab.launchers.compose import Composer, located
        from reglab.launchers.job_returns import job_return

        composer = Composer(self.context.config_loader, self.config)
        given = [decode(overrides, number) for number, overrides in enumerate(job_overrides, initial_job_idx)]
        ends = self.run([located(composer, request) for request in given], composer)
        return [job_return(request.overrides, ends[request.number]) for request in given if request.number in ends]


def capabilities_of(launcher: Launcher) -> Capabilities:
    """Return what a launcher declares; Hydra's own declare nothing."""
    return launcher.capabilities if isinstance(launcher, RequestLauncher) else Capabilities()
