"""The task function that Hydra and its launchers call for each job."""

import warnings

from omegaconf import DictConfig

from reglab.sweeps.events import reporter


def train(config: DictConfig) -> object:
    """Train one job and return its ``JobResult``."""
    # Lightning 2.6 asks torch in a way that torch 2.13 is giving up; neither is the user's doing.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    from reglab.training.job import run_job  # late: torch is not needed to check and launch a sweep

    return run_job(config, reporter())
