"""Training with ``trainer.compile`` is training without it: weights, draws, measurements; and what
is refused.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import laws_harness as harness
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch._dynamo import register_backend
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from reglab.core.errors import UserError
from reglab.regularizers import Cocktail, Dropout, Regularizer
from reglab.regularizers.keys import Keys
from reglab.tracking.journal import Journal
from reglab.training.torch_compile import compile_inner

TRACED = {"backend": "aot_eager"}  # traced forward and backward, but run by torch's own kernels: quick to compile
NUMBERS = count()  # of backends that tests register

# Dynamo hides this warning, which it causes, by other means than filters, so that an error is made
# of it.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@contextmanager
def compiled(model: nn.Module, setting: Any, keys: Keys) -> Iterator[None]:
    undo = compile_inner(model, setting, keys)
    try:
        yield
    finally:
        undo()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def trained(
    regularizers: dict[str, Regularizer], setting: Any = False, model: nn.Module | None = None, **settings: Any
) -> dict[str, torch.Tensor]:
    """Train four epochs of four steps of 11 rows; with ``batch_size=10`` of four steps of 10 and
    one of 4.
    """
    settings = {"batch_size": 11, **settings}
    trainer = {"precision": "64-true", **settings.pop("trainer", {}), "compile": setting}
    return harness.weights_of(
        harness.trained(harness.experiment(regularizers, model=model, epochs=4, trainer=trainer, **settings))
    )


def assert_close(actual: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float) -> None:
    assert actual.keys() == wanted.keys()
    for name, tensor in wanted.items():
        scale = float(tensor.abs().max().clamp(min=1e-30))
        assert float((actual[name] - tensor).abs().max()) <= tolerance * scale, name


def dropping(width: int = 64, keys_index: torch.Tensor | None = None) -> tuple[nn.Module, Cocktail]:
    """Return linear maps that change nothing with dropout of both kinds: what comes out of ones is
    the masks.
    """
    maps = [nn.Linear(width, width, bias=False) for _ in range(2)]
    for layer in maps:
        nn.init.eye_(layer.weight)
    cocktail = Cocktail({"dropout": Dropout(0.5)}, 3, "classification")
    model = cocktail.prepare(nn.Sequential(maps[0], nn.Dropout(0.25), maps[1]))
    cocktail.keys.index = keys_index
    return model.train(), cocktail


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", harness.NAMES)
def test_every_regularizer_trains_to_the_same_weights_without_a_graph_break(name: str) -> None:
    sizes = 2 if name in ("dropout", "sam") else 1  # each takes a second
    rows = {1: 11, 2: 10}[sizes]
    eager = trained(harness.members(name), batch_size=rows)
    assert graphs() == 0
    assert_close(trained(harness.members(name), TRACED, batch_size=rows), eager, 1e-10)
    assert graphs() == sizes  # none for measurements, none for SAM's second gradient
    assert not counters["graph_break"]


def test_inductors_kernels_train_to_the_same_weights_with_the_same_masks() -> None:
    eager = trained(harness.members("dropout"))
    assert_close(trained(harness.members("dropout"), True), eager, 1e-10)
    assert graphs() == 1


def test_inductor_draws_the_same_masks_bit_for_bit_in_float32() -> None:
    index = torch.tensor([7, 3, 100_000, 0, 2**40])
    model, cocktail = dropping(keys_index=index)
    model.requires_grad_(False)  # no backward to compile
    inputs, actual = torch.ones(5, 64), []
    for setting in (False, True):
        with compiled(model, setting, cocktail.keys):
            for step in (0, 1, 2**33):
                cocktail.keys.step.fill_(step)
                cocktail.keys.begin()
                actual.append(model(inputs))
    assert graphs() == 1
    assert torch.equal(torch.stack(actual[:3]), torch.stack(actual[3:]))
    assert not torch.equal(actual[0], actual[1])


def test_nothing_is_compiled_after_the_first_epoch() -> None:
    observed = []

    class Counting(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            observed.append((graphs(), counters["frames"]["total"]))

    job = harness.experiment(harness.members("dropout"), epochs=5, trainer={"compile": TRACED})
    harness.trained(job, callbacks=[Counting()])
    assert len(observed) == 5
    assert set(observed) == {(2, 2)}


def test_a_resumed_run_gets_the_same_bits_though_it_compiles_the_last_batch_first(tmp_path: Path) -> None:
    def make() -> harness.Experiment:
        return harness.experiment(harness.members("dropout"), trainer={"compile": TRACED})

    uninterrupted = harness.trained(make())
    harness.assert_same_bits(uninterrupted, harness.cut_and_resumed(make, 4, tmp_path))


def named(backend: Callable[..., Any]) -> str:
    """Register a backend of a test's own, and return the name by which a setting has it."""
    name = f"of_a_test_{next(NUMBERS)}"
    register_backend(backend, name=name)
    return name


def test_each_batch_size_is_compiled_for_itself() -> None:
    """A kernel for any size rounds otherwise than one for this size: a resumed run would meet them
    in another order.
    """
    sizes: list[set[Any]] = []

    def spy(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        sizes.append({size for value in inputs if isinstance(value, torch.Tensor) for size in value.shape})
        return graph.forward

    model, cocktail = dropping()
    with compiled(model, {"backend": named(spy)}, cocktail.keys):
        for rows in (5, 7, 5, 7, 9):
            cocktail.keys.index = torch.arange(rows)
            cocktail.keys.begin()
            model(torch.ones(rows, 64))
    assert sizes == [{5, 64}, {7, 64}, {9, 64}]


def test_the_examples_numbers_are_not_taken_for_a_fixed_address() -> None:
    """A graph of the device (``reduce-overhead``) would be recorded anew with every batch."""
    model, cocktail = dropping()
    inputs: dict[str, Any] = {}

    def spy(graph: torch.fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                inputs[node.name] = node.meta.get("tensor_dict", {}).get("_dynamo_static_input_type")
        return graph.forward

    with compiled(model, {"backend": named(spy)}, cocktail.keys):
        cocktail.keys.index = torch.arange(5)
        model(torch.ones(5, 64))
    moving = [name for name, kind in inputs.items() if kind is None]
    assert len(moving) == 2, inputs  # the inputs and the numbers of the examples
    assert len(inputs) > 4  # weights, seed, step and strength are where they were


def test_a_model_that_torch_itself_defines_is_compiled() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    with compiled(model, {"backend": "eager"}, Keys(0)):
        model(torch.ones(3, 4))
    assert graphs() == 1


def test_a_model_with_dropout_does_not_run_what_was_compiled_for_one_without() -> None:
    outputs = []
    for regularizers in ({}, {"dropout": Dropout(0.9)}):
        model = Cocktail(regularizers, 0, "classification").prepare(harness.small_model(norm=False)).train()
        with compiled(model, {"backend": "eager"}, Keys(0)):
            outputs.append(model(torch.ones(6, harness.FEATURES)).detach())
    assert not torch.equal(*outputs)


class _Broken(nn.Module):
    """Its forward cannot be traced as one graph, and its parts can."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(harness.FEATURES, 8), nn.BatchNorm1d(8))
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, harness.CLASSES)
        self.seen: list[float] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.inner(inputs)
        torch._dynamo.graph_break()
        return self.head(self.drop(hidden.relu()))


def broken() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _Broken()


def test_a_model_of_several_graphs_trains_to_the_same_weights_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    eager = trained(harness.members("dropout"), model=broken())
    assert_close(trained(harness.members("dropout"), TRACED, model=broken()), eager, 1e-10)
    assert graphs() == 2
    assert not warnings_in(caplog)


def test_a_model_of_several_graphs_is_refused_where_one_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"trainer.compile.fullgraph=true, but the model is not one graph .* leave"):
        trained({}, {**TRACED, "fullgraph": True}, model=broken())


def _no_backward(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
    raise RuntimeError("no compiler for backward\nand a second line")


def _no_forward(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
    if any("relu" in str(node.target) for node in graph.graph.nodes):
        raise RuntimeError("no compiler here\nand a second line")
    return graph.forward


def _any_forward(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
    from functorch.compile import make_boxed_func

    return make_boxed_func(graph.forward)


@pytest.mark.parametrize(
    "setting",
    [
        {"backend": named(_no_forward)},
        # With sizes that vary, torch would compile backward only when it is called.
        {"backend": named(aot_autograd(fw_compiler=_any_forward, bw_compiler=_no_backward)), "dynamic": True},
    ],
    ids=["forward", "backward"],
)
def test_what_cannot_be_compiled_runs_as_it_was_and_one_line_says_so(
    setting: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    eager = trained(harness.members("dropout"), model=broken())
    actual = trained(harness.members("dropout"), setting, model=broken())
    assert_close(actual, eager, 1e-10)
    (predicted,) = warnings_in(caplog)
    assert "\n" not in predicted
    assert "no compiler" in predicted


def test_an_error_of_the_model_itself_is_raised_as_it_is() -> None:
    model, cocktail = dropping(7, torch.arange(4))
    with (
        compiled(model, TRACED, cocktail.keys),
        pytest.raises(ValueError, match=r"a shape of \(3, 7\) does not hold 4 examples"),
    ):
        model(torch.ones(3, 7))


def test_measurements_run_the_model_as_it_was_and_can_be_differentiated_twice() -> None:
    model, cocktail = dropping(4)
    inputs = torch.randn(3, 4, requires_grad=True)
    model.eval()
    before = model(inputs).detach()
    with compiled(model, TRACED, cocktail.keys):
        outputs = model(inputs)
        (gradient,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
        gradient.sum().backward()
        with torch.no_grad():
            model.train()(inputs)
    assert torch.equal(outputs.detach(), before)
    assert graphs() == 0


def test_terms_and_gap_are_recorded_as_without(tmp_path: Path) -> None:
    recorded = []
    for setting in (False, TRACED):
        folder = tmp_path / str(len(recorded))
        harness.trained(harness.experiment(harness.members("sam"), trainer={"compile": setting}), folder)
        rows = Journal(folder / "journal.jsonl").rows()
        recorded.append({(row.key, row.step): row.value for row in rows if not row.key.startswith(("system", "time"))})
    assert recorded[0].keys() == recorded[1].keys()
    assert recorded[1] == pytest.approx(recorded[0], rel=1e-4, abs=1e-6)


def test_undoing_leaves_nothing_behind() -> None:
    from torch._functorch import config

    def settings() -> list[bool]:
        dynamo = torch._dynamo.config
        return [dynamo.suppress_errors, dynamo.skip_nnmodule_hook_guards, config.force_non_lazy_backward_lowering]

    model, names = harness.small_model(), list(harness.small_model().state_dict())
    before, filters = settings(), list(logging.getLogger("torch._dynamo.convert_frame").filters)
    undo = compile_inner(model, {"backend": "eager"}, Keys(0))
    assert list(model.state_dict()) == names
    assert settings() != before
    undo()
    assert settings() == before
    assert logging.getLogger("torch._dynamo.convert_frame").filters == filters
    model(torch.ones(3, harness.FEATURES))
    assert graphs() == 0
