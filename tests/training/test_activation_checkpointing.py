"""Activation checkpointing: the bits of training without it, in less memory."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.nn.utils import parametrizations

from reglab.regularizers import Batch, Cocktail
from reglab.regularizers.dropout import Dropout
from reglab.training.activation_checkpointing import recompute


class Layer(nn.Module):
    """Moves buffers that it reads (a power iteration) and that it does not (BatchNorm), and draws
    in two ways.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = parametrizations.spectral_norm(nn.Linear(width, width))
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(width, width)

    def forward(self, inputs: Tensor, *, scale: float = 1.0) -> Tensor:
        hidden = functional.dropout(torch.tanh(self.norm(self.linear(inputs))), 0.2, self.training)
        outputs: Tensor = self.out(self.drop(hidden)) * scale
        return outputs


class Net(nn.Module):
    """Its first layer is called twice in a forward."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width) for _ in range(2))
        self.head = nn.Linear(width, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layers[0](inputs)
        hidden = self.layers[1](self.layers[0](hidden, scale=0.5))
        outputs: Tensor = self.head(hidden)
        return outputs


def taken_over() -> tuple[nn.Module, Cocktail]:
    torch.manual_seed(0)
    cocktail = Cocktail({"dropout": Dropout(0.4)}, seed=3, task="classification")
    return cocktail.prepare(Net()), cocktail


def train(model: nn.Module, cocktail: Cocktail, observed: Callable[[], None] = lambda: None) -> None:
    """Take 5 steps, each with two gradients of one graph, on examples that come in another order
    each time.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    objective = cocktail.objective(
        lambda outputs, targets: functional.cross_entropy(outputs, targets, reduction="none")
    )
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(20, 6, generator=generator), torch.randint(3, (20,), generator=generator)
    torch.manual_seed(2)
    for _ in range(5):
        rows = torch.randperm(20, generator=generator)[:8]
        cocktail.keys.index = rows
        cocktail.keys.begin()
        optimizer.zero_grad()
        loss = objective(model, Batch(inputs[rows], [(torch.ones(8), targets[rows])], rows)).loss
        observed()
        loss.backward(retain_graph=True)
        loss.backward()
        optimizer.step()
        cocktail.keys.step.add_(1)


@pytest.mark.parametrize("chosen", ["all", "layers", "head"])
def test_five_steps_give_the_bits_of_training_without(chosen: str) -> None:
    plain, cocktail = taken_over()
    train(plain, cocktail)
    calls, drawn = dict(cocktail.keys.calls), torch.rand(1)
    model, cocktail = taken_over()
    names = list(model.state_dict())
    called = [module for module in model.modules() if not isinstance(module, nn.ModuleList | nn.ModuleDict)]
    called = [module for module in called if type(module).__name__ not in ("ParametrizationList", "_SpectralNorm")]
    modules = {"all": called, "layers": list(model.layers), "head": [model.head]}[chosen]
    recompute(modules, cocktail.keys)
    train(model, cocktail)
    assert list(model.state_dict()) == names
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert dict(cocktail.keys.calls) == calls
    assert torch.equal(torch.rand(1), drawn)  # torch's generator stands where it stood


def test_the_activations_of_a_layer_are_free_between_its_forward_and_the_backward_pass() -> None:
    alive: dict[bool, list[bool]] = {}
    for recomputed in (False, True):
        model, cocktail = taken_over()
        outputs: list[StorageWeakRef] = []
        model.layers[1].linear.register_forward_hook(
            lambda *call, kept=outputs: kept.append(StorageWeakRef(call[-1].untyped_storage()))
        )
        if recomputed:
            recompute(model.layers, cocktail.keys)
        actual = alive.setdefault(recomputed, [])
        train(model, cocktail, lambda kept=outputs, actual=actual: actual.append(not kept[-1].expired()))
    assert alive == {False: [True] * 5, True: [False] * 5}


def test_fewer_bytes_are_kept_for_the_backward_pass() -> None:
    kept = {}
    for recomputed in (False, True):
        model, cocktail = taken_over()
        if recomputed:
            recompute(model.layers, cocktail.keys)
        local = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        storages: dict[int, int] = {}

        def pack(saved: Tensor, local: set[int] = local, storages: dict[int, int] = storages) -> Tensor:
            storage = saved.untyped_storage()
            if storage.data_ptr() not in local:
                storages[storage.data_ptr()] = storage.nbytes()
            return saved

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            outputs = model(torch.randn(256, 6))
        kept[recomputed] = sum(storages.values())
        outputs.sum().backward()
    activation = 256 * 6 * 4  # bytes: of the inputs of three calls, and what the head and dropout before it keep
    assert kept[True] <= 5 * activation < 20 * activation < kept[False], kept


def test_a_copy_of_model_and_cocktail_trains_by_itself() -> None:
    model, cocktail = taken_over()
    recompute(model.layers, cocktail.keys)
    before = copy.deepcopy(model.state_dict())
    twin, keys_of_twin = copy.deepcopy((model, cocktail))
    train(twin, keys_of_twin)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not cocktail.keys.calls
    train(model, cocktail)
    for name, value in twin.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_evaluation_keeps_nothing_and_undoing_restores_the_module() -> None:
    model, cocktail = taken_over()
    calls: list[int] = []
    model.layers[1].norm.register_forward_hook(lambda *_: calls.append(1))
    undo = recompute([model.layers[1], model.layers[1]], cocktail.keys)
    model.eval()(torch.randn(4, 6, requires_grad=True)).sum().backward()
    with torch.no_grad():
        model.train()(torch.randn(4, 6))
    assert len(calls) == 2
    model(torch.randn(4, 6)).sum().backward()
    assert len(calls) == 4  # once more in the backward pass
    undo()
    assert "forward" not in vars(model.layers[1])
    model(torch.randn(4, 6)).sum().backward()
    assert len(calls) == 5
