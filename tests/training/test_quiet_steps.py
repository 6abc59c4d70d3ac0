"""Law: no step makes the host wait for the device, so that a GPU never runs dry.

There need not be a GPU to see it. A number that is read is an operation, seen on the CPU as well.
And tensors without data, on the device ``meta``, cannot be read at all: whatever tries fails there.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import laws_harness as harness
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reglab.regularizers import L1, Batch, Regularizer
from reglab.training.solo import Solo
from regularizers.loop import Loop, cross_entropy

READS = (
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "nonzero_numpy", "argwhere", "masked_select"),
    *("unique", "_unique", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "bincount", "allclose"),
)
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.5},
    "Adam": {"_target_": "torch.optim.Adam", "lr": 0.01},
}


class Reads(TorchDispatchMode):
    """Notes each operation whose result the host needs before it can go on, and how many there were
    at each update.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []
        self.updates: list[int] = []
        self._held: set[int] = set()

    def updated(self, optimizer: Optimizer) -> None:
        self.updates.append(len(self.operations))
        # torch.optim counts steps on the host, unless it was asked not to.
        self._held = {state["step"].data_ptr() for state in optimizer.state.values() if "step" in state}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if by_mask or name in READS:
            read = [tensor for tensor in tree_leaves(args) if isinstance(tensor, Tensor)]
            if not all(tensor.data_ptr() in self._held for tensor in read):
                self.operations.append(name)
        return operation(*args, **(kwargs or {}))


class Fetches(TorchFunctionMode):
    """Adds to ``observed`` what brings a whole tensor to the host, which is no operation where it
    is there already.
    """

    def __init__(self, observed: list[str]) -> None:
        super().__init__()
        self._seen = observed

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__):
            self._seen.append(function.__name__)
        return function(*args, **(kwargs or {}))


class Watched(Solo):
    """Tells ``reads`` of each update."""

    reads: Reads

    def on_fit_start(self) -> None:
        super().on_fit_start()
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        optimizer.register_step_post_hook(lambda *_: self.reads.updated(optimizer))


def read_between_updates(
    members: dict[str, Regularizer], steps_per_batch: int, optimizer: str = "SGD", **recipe: Any
) -> list[list[str]]:
    """Train an epoch of four steps and return what was read between each two of its updates."""
    chosen = OPTIMIZERS[optimizer]
    job = harness.experiment(members, epochs=1, batch_size=11, steps_per_batch=steps_per_batch, optimizer=chosen)
    job = replace(job, recipe=replace(job.recipe, **recipe))
    Watched.reads = Reads()
    with Watched.reads, Fetches(Watched.reads.operations):
        harness.trained(job, module_class=Watched)
    assert len(Watched.reads.updates) == 4
    return [Watched.reads.operations[start:end] for start, end in pairwise(Watched.reads.updates)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", harness.NAMES)
def test_nothing_is_read_from_the_device_within_a_chunk(name: str, optimizer: str) -> None:
    assert read_between_updates(harness.members(name), 4, optimizer) == [[], [], []]


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_neither_clipping_nor_a_schedule_reads(interval: str) -> None:
    schedule = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "interval": interval}
    assert read_between_updates({}, 4, clip=0.1, scheduler=schedule) == [[], [], []]


def test_between_chunks_one_number_is_read() -> None:
    """Whether the loss is finite; on a GPU it is that of the chunk before, which is on the host by
    then.
    """
    inside, between, again = read_between_updates(harness.members("l1"), 2, "Adam")
    assert inside == again == []
    assert between == ["_local_scalar_dense"]


class Reading(Regularizer):
    """What a careless method does: a branch on a value, weights chosen by a mask, a look at all of
    them.
    """

    def on_step(self, model: nn.Module, step_size: Any) -> None:
        for weight in [*model.parameters()][:1]:
            if weight.sum() < 1e9:
                weight[weight > 1e9] = 0.0
            weight.tolist()


def test_a_method_that_reads_is_found() -> None:
    assert read_between_updates({"reading": Reading()}, 4)[0] == ["_local_scalar_dense", "index_put_", "tolist"]


class Crossings(TorchDispatchMode):
    """Notes what is sent from the host to the device.

    A 0-dim tensor of the host beside others is a plain argument.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        tensors = [tensor for tensor in tree_leaves((args, kwargs, result)) if isinstance(tensor, Tensor)]
        if len({tensor.device for tensor in tensors}) > 1 and name in ("_to_copy", "copy_", "copy"):
            self.operations.append(name)
        return result


class Made(TorchFunctionMode):
    """Notes tensors that are made of the host's numbers for the device: these are sent, too."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in (torch.tensor, torch.as_tensor, torch.asarray) and not isinstance(args[0], Tensor):
            self.operations.extend([function.__name__] if result.device.type == "meta" else [])
        return result


def steps_without_data(regularizers: dict[str, Regularizer], optimizer: str) -> list[str]:
    """Take two steps with all tensors on ``meta`` and return what was sent there in the second."""
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 3)).to("meta")
    options = {key: value for key, value in OPTIMIZERS[optimizer].items() if key != "_target_"}
    optimizer_class = getattr(torch.optim, optimizer)
    loop = Loop(
        model, regularizers, lambda weights: optimizer_class(weights, **options), cross_entropy, "classification"
    )
    loop.cocktail.to("meta")
    inputs, rows = torch.empty(10, 6, device="meta"), torch.empty(10, dtype=torch.int64, device="meta")
    objective, one = loop.objective, torch.ones((), device="meta")
    loop.objective = lambda model, batch: objective(
        model, Batch(batch.inputs, [(one, target) for _, target in batch.targets], batch.index)
    )
    loop.step(inputs, rows, rows)
    with Made() as made, Crossings() as crossings:
        loop.step(inputs, rows, rows)
    return made.operations + crossings.operations


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", harness.NAMES)
def test_a_step_without_data_reads_and_sends_nothing(name: str, optimizer: str) -> None:
    assert steps_without_data(harness.members(name), optimizer) == []


class Sending(Regularizer):
    def on_step(self, model: nn.Module, step_size: Any) -> None:
        for weight in model.parameters():
            weight.mul_(torch.tensor(0.5, device=weight.device))
            weight.mul_(torch.tensor(0.5).to(weight.device))


def test_a_method_that_sends_or_reads_is_found_without_data() -> None:
    assert {"tensor", "_to_copy"} <= set(steps_without_data({"sending": Sending()}, "SGD"))
    with pytest.raises(RuntimeError, match="meta"):
        steps_without_data({"reading": Reading()}, "SGD")


def test_a_proximal_step_where_the_optimizer_counts_on_the_device() -> None:
    """As with ``fused`` or ``capturable``: neither the count nor a learning rate that is a tensor
    can be read here.
    """
    model = nn.Linear(3, 2).to("meta")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    loop = Loop(model, {"l1": L1(0.1)}, lambda weights: optimizer, task="regression")
    loop.cocktail.to("meta")
    for weight in model.parameters():
        weight.grad = torch.empty_like(weight)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = torch.empty((), device="meta")
    for weight in model.parameters():
        optimizer.state[weight]["step"] = torch.empty((), device="meta")
    with Made() as made, Crossings() as crossings:
        loop.cocktail.after_step(model, loop.sizes)
    assert made.operations + crossings.operations == []
    assert loop.sizes["weight"].dtype == torch.float32
