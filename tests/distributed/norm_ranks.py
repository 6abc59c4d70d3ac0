"""Trains small normalized models on a rank's rows, or on all of them: started in processes by
test_synced_norm.
"""

import copy
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from reglab.distributed.sync_batchnorm import synchronize_batchnorm
from reglab.regularizers.keys import Keys
from reglab.training.activation_checkpointing import recompute

ROWS = {2: [5, 3], 4: [4, 1, 3, 0]}  # of each rank; 0: a stand-in
Found = dict[str, Tensor]


class Activated(nn.BatchNorm1d):
    """A subclass that does more than to normalize, in a forward of its own, as timm's do."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.num_batches_tracked.add_(1)
        running = self.running_mean, self.running_var
        return functional.relu(functional.batch_norm(inputs, *running, self.weight, self.bias, self.training, 0.1))


class Checkpointed(nn.Module):
    """A net whose inside torch itself computes again."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = checkpoint(self.inside, inputs, use_reentrant=False)
        return outputs


def net() -> nn.Sequential:
    """Nothing with weights comes behind the last norm: there, the gradients of a stand-in are its
    trainer's affair.
    """
    first, second = (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Tanh()) for _ in range(2))
    return nn.Sequential(first, second)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vectors": (lambda: nn.BatchNorm1d(3), (3,)),
    "signals": (lambda: nn.BatchNorm1d(3), (3, 2)),
    "images": (lambda: nn.BatchNorm2d(3, eps=1e-3, momentum=0.3), (3, 2, 4)),
    "volumes": (lambda: nn.BatchNorm3d(3), (3, 2, 1, 2)),
    "cumulative": (lambda: nn.BatchNorm1d(3, momentum=None), (3,)),
    "bare": (lambda: nn.BatchNorm1d(3, affine=False), (3,)),
    "untracked": (lambda: nn.BatchNorm1d(3, track_running_stats=False), (3,)),
    "activated": (lambda: Activated(3), (3,)),
    "net": (net, (3,)),
    "recomputed": (net, (3,)),
    "checkpointed": (lambda: Checkpointed(net()), (3,)),
}


def built(name: str) -> tuple[nn.Module, Tensor]:
    """Return the model of a case, its weights drawn, and the joint batch [8, ...]."""
    make, shape = CASES[name]
    torch.manual_seed(0)
    model = make().double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, dtype=torch.float64))
    scale = torch.arange(1, 4, dtype=torch.float64).view(3, *[1] * (len(shape) - 1))
    return model, 5 + scale * torch.randn(8, *shape, dtype=torch.float64)


def worked(model: nn.Module, inputs: Tensor, steps: int = 3, curved: bool = False) -> Found:
    """Return outputs, gradients and buffers after some steps.

    curved: the loss contains its own gradient's length, as a gradient penalty's does.
    """
    inputs = inputs.clone().requires_grad_()
    for _ in range(steps):
        for leaf in (inputs, *model.parameters()):
            leaf.grad = None
        outputs = model(inputs)
        loss = (outputs.square() * (1 + outputs.cos())).sum()
        if curved:
            (gradient,) = torch.autograd.grad(loss, inputs, create_graph=True)
            loss = loss + gradient.square().sum()
        loss.backward()
    gradients = {
        f"gradient/{name}": weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }
    state = {f"state/{name}": value for name, value in model.named_buffers()}
    return {"outputs": outputs.detach(), "gradient": inputs.grad, **gradients, **state}


def part_of(inputs: Tensor, rank: int, rows: list[int]) -> Tensor:
    """Return the rank's rows; for a rank that has none, rows that would be noticed."""
    return inputs.split(rows)[rank] if rows[rank] else 1e3 * inputs[:2]


def start(rank: int, ranks: int, folder: str) -> None:
    """Run on one rank everything that test_synced_norm asks for, and save what was found."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", meeting, timedelta(seconds=60), world_size=ranks, rank=rank)
    try:
        torch.save(_everything(rank, ROWS[ranks]), Path(folder) / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()


def _everything(rank: int, rows: list[int]) -> dict[str, Any]:
    def is_padding() -> bool:
        return rows[rank] == 0

    actual: dict[str, Any] = {}
    for name in CASES:
        model, inputs = built(name)
        synchronize_batchnorm(model, is_padding)
        if name == "recomputed":
            recompute(model, Keys(0))
        actual[name] = worked(model, part_of(inputs, rank, rows))
    model, inputs = built("net")
    synchronize_batchnorm(model, is_padding)
    twin = copy.deepcopy(model)
    part = part_of(inputs, rank, rows)
    actual["curved"] = worked(twin, part, curved=True)
    actual["original"] = dict(model.named_buffers())
    actual["far"] = worked(synced(nn.BatchNorm1d(3).double(), is_padding), part + 1e8)
    actual["float32"] = worked(
        synced(built("images")[0].float(), is_padding), part_of(built("images")[1], rank, rows).float()
    )
    with torch.autocast("cpu", torch.bfloat16):
        actual["autocast"] = worked(synced(built("net")[0].float(), is_padding), part.float())
    actual["single"] = _refused(rank)
    if rank == 0:  # alone: were there a collective, it would wait for the others, and fail
        actual["evaluated"] = model.eval()(inputs).detach()
        lone, _ = built("net")
        synchronize_batchnorm(lone, is_padding)()
        actual["undone"] = worked(lone, inputs)
    return actual


def synced(model: nn.Module, is_padding: Callable[[], bool]) -> nn.Module:
    synchronize_batchnorm(model, is_padding)
    return model


def _refused(rank: int) -> str:
    model = synced(nn.BatchNorm1d(3), lambda: rank > 0)
    try:
        model(torch.ones(1 + rank, 3))
    except ValueError as error:
        return str(error)
    return ""
