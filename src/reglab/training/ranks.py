"""What several ranks agree on."""

import torch
from torch import Tensor, distributed


def mean_over_ranks(loss: Tensor) -> Tensor:
    """Return the mean of a loss of any shape over all ranks, with the gradient of this rank's own part.

    Data-parallel training averages gradients over ranks, so a nonlinear function of this mean gets, summed up, the
    gradient that one process would have on the joint batch.
    """
    with torch.no_grad():
        total = loss.detach().clone()
        distributed.all_reduce(total)
        correction = total / distributed.get_world_size() - loss
    return loss + correction


def max_over_ranks(number: Tensor) -> Tensor:
    """Return the largest of all ranks' numbers, on every rank."""
    found = number.clone()
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
    return found
