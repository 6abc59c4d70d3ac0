"""The task function that Hydra and its launchers call for each job."""

from omegaconf import DictConfig

from reglab.sweeps.events import reporter


def train(config: DictConfig) -> object:
    """Train one job and return its ``JobResult``."""
    from reglab.training.job import run_job  # late: torch is not needed to check and launch a sweep

    return run_job(config, reporter())
