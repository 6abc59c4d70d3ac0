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


def cocktail(number: int):
    mixture = {}
    for place, (name, strength) in enumerate(STRENGTHS.items(), 1):
        mixture |= harness.members(name, strength=strength if place == number else 0.0)
    return mixture


def model(kind: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (
            MLP(8, 2, norm="batch", inputs=6, outputs=3)
            if kind == "mlp"
            else CNN([4], norm="batch", inputs=(2, 3), outputs=3)
        )


def assert_float32_law(kind: str, members: int, compiled: bool) -> None:
    shape = (6,) if kind == "mlp" else (2, 3)
    inputs = fused.reshaped(shape).val.inputs

    def make(number: int) -> Experiment:
        return fused.job(
            cocktail(number), seed=number, model=model(kind, number), optimizer=fused.ADAM, precision="32-true",
            data=fused.reshaped(shape),
        )  # fmt: skip

    def outputs(solo: type[fused.Solo], number: int) -> Tensor:
        trained = fused.alone(make(number), solo).eval()
        with torch.no_grad():
            return trained.model(inputs)

    pack = fused.together([make(number) for number in range(members)], compiled=compiled).pack
    joint = pack.outputs(pack.judged(), inputs)
    for number in range(members):
        one = outputs(fused.Solo, number)
        floor = (outputs(fused.SoloPermuted, number) - one).abs().max()
        assert 0 < floor < 0.05
        assert (joint[number] - one).abs().max() <= 10 * floor


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_outputs_differ_no_more_than_by_the_order_of_the_rows(kind: str) -> None:
    assert_float32_law(kind, 5, compiled=False)


@pytest.mark.long  # the compiler takes half a minute the first time
def test_compiled_too(caplog: pytest.LogCaptureFixture) -> None:
    assert_float32_law("mlp", 3, compiled=True)
    assert "torch.compile failed" not in caplog.text
