"""Slurm as Lightning knows it, without its own way to requeue a job."""

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from reglab.processes import rank_environment


def cluster() -> list[ClusterEnvironment]:
    """Return the plugins that a Trainer needs for what started this process.

    On SIGUSR1 Lightning would save in the middle of a step, into the working folder, and every later
    run that starts there would resume from that. Our runs resume from their own checkpoints: see
    ``rank_consistency.shared_folder_overrides``.
    """
    return [SLURMEnvironment(auto_requeue=False)] if rank_environment.process_rank().launched_by == "srun" else []
