"""Slurm plugin for Lightning, without its automatic requeue."""

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from reglab.processes import rank_environment


def cluster_plugins() -> list[ClusterEnvironment]:
    """Return the Trainer plugins for the environment that started this process.

    On SIGUSR1 Lightning would save in the middle of a step, into the working folder, and every
    later run that starts there would resume from that. Our runs resume from their own checkpoints:
    see ``rank_consistency.shared_folder_overrides``.
    """
    return [SLURMEnvironment(auto_requeue=False)] if rank_environment.process_rank().launched_by == "srun" else []
