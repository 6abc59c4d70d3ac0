"""Trains every method under data-parallel processes and saves the weights: started by test_two_ranks with torchrun."""

import os
import sys
from pathlib import Path

import laws_harness as harness
import torch


def job(name: str, ranks: int) -> harness.Experiment:
    """Return the job on ``ranks`` processes, each with its part of the same joint batches.

    Of 4 rows, so that each rank has an even number, which mixup pairs.
    """
    trainer = {"precision": "64-true", "devices": 1}
    if ranks > 1:
        trainer |= {"devices": ranks, "strategy": "ddp", "num_nodes": 1}
    # No BatchNorm: its statistics are each rank's own by design (sync_batchnorm is the user's choice).
    model = harness.small_model(torch.float64, norm=False)
    options = {"batch_size": 4 // ranks, "trainer": trainer, "checkpoint_seconds": 0.01}
    return harness.experiment(harness.members(name), model=model, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, target = os.environ["RANK"], Path(sys.argv[1])
    for name in harness.NAMES:
        # Lightning sends every rank's checkpoint to the path that rank 0 has, so all of them use one folder.
        state = harness.trained(job(name, 2), target / name)
        if rank == "0":
            torch.save(state, target / f"{name}.pt")
