"""Law: in float32 a pack's outputs differ from solo ones as two solo runs differ whose batch rows are permuted."""

import fused_harness as fused
import laws_harness as harness
import pytest
import torch
from torch import Tensor, nn

from reglab.models import CNN, MLP
from reglab.training.experiment import Experiment

# One cocktail of four methods, of which each member has one, and the first none: the others are neutral.
STRENGTHS = {"dropout": 0.3, "l1": 1e-3, "sam": 0.05, "mixup": 0.2}


def cocktail(number: int, names: tuple[str, ...]):
    mixture = {}
    for place, name in enumerate(names, 1):
        mixture |= harness.members(name, strength=STRENGTHS[name] if place == number else 0.0)
    return mixture


def model(kind: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (
            MLP(8, 2, norm="batch", inputs=6, outputs=3)
            if kind == "mlp"
            else CNN([4], norm="batch", inputs=(2, 3), outputs=3)
        )


def assert_float32_law(kind: str, names: tuple[str, ...], compiled: bool) -> None:
    members = len(names) + 1
    shape = (6,) if kind == "mlp" else (2, 3)
    inputs = fused.reshaped(shape).val.inputs

    def make(number: int) -> Experiment:
        return fused.job(
            cocktail(number, names), seed=number, model=model(kind, number), optimizer=fused.ADAM, precision="32-true",
            data=fused.reshaped(shape), epochs=10,
        )  # fmt: skip

    def outputs(number: int, state: dict[str, Tensor]) -> Tensor:
        fresh = make(number)
        trained = fresh.cocktail.prepare(fresh.model).eval()
        trained.load_state_dict({name[6:]: value for name, value in state.items() if name.startswith("model.")})
        with torch.no_grad():
            return trained(inputs)

    pack = fused.together([make(number) for number in range(members)], compiled=compiled)
    for number, state in fused.states(pack).items():
        one, permuted = (
            outputs(number, fused.alone(make(number), solo).state_dict()) for solo in (fused.Solo, fused.SoloPermuted)
        )
        floor = (permuted - one).abs().max()
        assert 0 < floor < 0.05
        assert (outputs(number, state) - one).abs().max() <= 10 * floor


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_outputs_differ_no_more_than_by_the_order_of_the_rows(kind: str) -> None:
    assert_float32_law(kind, tuple(STRENGTHS), compiled=False)


# Those that draw, and one that steps: each method more lengthens compiling.
def test_compiled_too(caplog: pytest.LogCaptureFixture) -> None:
    assert_float32_law("mlp", ("dropout", "mixup", "l1"), compiled=True)
    assert "uncompiled" not in caplog.text
