"""Packs: which jobs can train together, what the others are told, and what a pack measures."""

from dataclasses import replace

import fused_harness as fused
import laws_harness as harness
import pytest
import torch
from torch import nn
from torch.nn import functional

from reglab.core.errors import Unfused, UserError
from reglab.regularizers import L1
from reglab.training.fused.module import PackModule
from reglab.training.fused.pack import Pack


class _OneRandomLayer(nn.Module):
    """A model that draws from torch's generator, which no member can have for itself."""

    def __init__(self, recurrent: bool) -> None:
        super().__init__()
        self.recurrent = (
            nn.LSTM(harness.FEATURES, 4, num_layers=2, dropout=0.5, batch_first=True) if recurrent else None
        )
        self.head = nn.Linear(4 if recurrent else harness.FEATURES, harness.CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.recurrent is None:
            return self.head(functional.dropout(inputs, 0.3, self.training))
        return self.head(self.recurrent(inputs[:, None])[0][:, 0])


class _Branching(nn.Module):
    def __init__(self, on: str) -> None:
        super().__init__()
        self.head, self.on = nn.Linear(harness.FEATURES, harness.CLASSES), on

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = self.head(inputs)
        return outputs if (inputs if self.on == "inputs" else outputs).sum() > 0 else 2 * outputs


class _OnItsOwn(L1):
    fusable = False
    why_solo = "it asks the user at every step"


MODELS = {
    "LSTM with dropout": lambda: _OneRandomLayer(True),
    "F.dropout": lambda: _OneRandomLayer(False),
    "branch on outputs": lambda: _Branching("outputs"),
    "branch on inputs": lambda: _Branching("inputs"),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("seeds", [(0, 1), (2, 2)], ids=["own seeds", "one seed"])
def test_a_model_that_cannot_be_vmapped_trains_solo(kind: str, seeds: tuple[int, int]) -> None:
    module = PackModule(Pack([fused.job(seed=seed, model=MODELS[kind]()) for seed in seeds]))
    module.pack.to(torch.device("cpu"))
    before = module.pack.stack.clone()
    rows = next(iter(module.loader()))[0]
    with pytest.raises(Unfused, match="cannot be vmapped") as message:
        module.pack.graph(rows)
    assert message.value.groups == ()
    after = module.pack.stack.state_dict()
    for group, tensors in before.state_dict().items():
        harness.assert_same_bits(tensors, after[group])


def _groups(*jobs) -> tuple[tuple[int, ...], ...]:
    with pytest.raises(Unfused, match="differ in more than numbers") as message:
        Pack(jobs)
    return message.value.groups


def test_jobs_of_other_structure_are_told_apart() -> None:
    wide = nn.Sequential(nn.Linear(harness.FEATURES, 9), nn.Tanh(), nn.Linear(9, harness.CLASSES))
    assert _groups(fused.job(), fused.job(model=wide), fused.job(seed=1)) == ((0, 2), (1,))
    assert _groups(fused.job(), fused.job(harness.members("l1"))) == ((0,), (1,))
    weights, biases = (harness.members("l1", where=where) for where in ("weights", "*bias"))
    assert _groups(fused.job(weights), fused.job(biases)) == ((0,), (1,))
    assert _groups(fused.job(), fused.job(optimizer=fused.ADAM)) == ((0,), (1,))
    assert _groups(fused.job(), fused.job(clip=1.0)) == ((0,), (1,))
    assert _groups(fused.job(), fused.job(batch_size=12), fused.job(batch_size=12)) == ((0,), (1, 2))
    assert _groups(fused.job(), fused.job(epochs=3)) == ((0,), (1,))
    frozen = fused.net()
    frozen[0].requires_grad_(False)
    assert _groups(fused.job(), fused.job(model=frozen)) == ((0,), (1,))
    fewer = harness.blobs()
    train = type(fewer.train)(*(values[:40] for values in vars(fewer.train).values()))
    assert _groups(fused.job(), fused.job(data=replace(fewer, train=train))) == ((0,), (1,))


class _Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.head, self.factor = nn.Linear(harness.FEATURES, harness.CLASSES), factor

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.factor * self.head(inputs)


def test_models_that_differ_in_a_plain_number_are_told_apart() -> None:
    assert _groups(fused.job(model=_Scaled(1.0)), fused.job(model=_Scaled(2.0))) == ((0,), (1,))


def test_members_may_differ_in_betas() -> None:
    betas = [{**fused.ADAM, "betas": pair} for pair in ([0.9, 0.999], [0.8, 0.99])]

    def make(number: int):
        return fused.job(seed=number, model=fused.net(number, bias=False), optimizer=betas[number], epochs=5)

    fused.assert_equals_solo(make, 2)


def test_what_no_pack_can_do_is_said() -> None:
    with pytest.raises(Unfused, match="regularizer own cannot be fused: it asks the user at every step"):
        Pack([fused.job({"own": _OnItsOwn()}), fused.job({"own": _OnItsOwn()})])
    with pytest.raises(Unfused, match=r"trainer\.precision=bf16-mixed trains solo only"):
        Pack([fused.job(precision="bf16-mixed"), fused.job(precision="bf16-mixed")])
    with pytest.raises(UserError, match="at least 2 jobs, got 1"):
        Pack([fused.job()])


@pytest.mark.parametrize("name", ["ema", "none"])
def test_members_are_judged_by_the_weights_that_each_would_be_judged_by_alone(name: str) -> None:
    make = lambda number: fused.job(harness.members(name), seed=number, epochs=3)  # noqa: E731 - a job, by number
    pack = fused.together([make(0), make(1)]).pack
    evaluation_weights = pack.evaluation_weights()
    for number in range(2):
        solo = fused.alone(make(number))
        with solo.cocktail.evaluating(solo.model):
            for key, weight in solo.model.named_parameters():
                torch.testing.assert_close(
                    evaluation_weights[f"model.{key}"][number], weight.detach(), rtol=1e-9, atol=1e-11
                )


def test_members_stop_by_their_own_patience() -> None:
    jobs = [fused.job(harness.members("early_stopping", patience=patience)) for patience in (1, 3)]
    pack = Pack(jobs)
    losses = [
        torch.tensor(values, dtype=torch.float64) for values in ([1.0, 1.0], [0.5, 0.5], [2, 0.6], [3, 0.7], [3, 1])
    ]
    stops = [pack.stop({"val/loss": loss}).tolist() for loss in losses]
    assert stops == [[False, False], [False, False], [True, False], [True, False], [True, True]]
