"""Mixed and low precision: the same steps however they are cut, numbers that stay wide, and a scaler's steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import laws_harness as harness
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn import functional

from reglab.regularizers import EMA, L1, SAM
from reglab.tracking.journal import Journal
from reglab.training import checkpoint_files
from reglab.training.loader import epoch_order
from reglab.training.solo import Solo

EPOCHS, BATCH, LR = 3, 10, 0.1
SGD = {"_target_": "torch.optim.SGD", "lr": LR}


def net() -> nn.Sequential:
    """Return a net without anything that draws or keeps statistics, so that a few lines train it by hand."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(harness.FEATURES, 8), nn.Tanh(), nn.Linear(8, harness.CLASSES))


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    train = harness.blobs().train
    for epoch in range(EPOCHS):
        for rows in epoch_order(harness.ROWS, 0, epoch).split(BATCH):
            yield train.inputs[rows], train.targets[rows]


def backward(model: nn.Module, inputs: Tensor, targets: Tensor, dtype: torch.dtype, scale: Any = 1.0) -> None:
    """Leave a gradient as torch's documentation has it: the cast weights of the one before are forgotten."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=dtype):
        outputs = model(inputs)
    (functional.cross_entropy(outputs.float(), targets, reduction="none").mean() * scale).backward()


@pytest.mark.parametrize("steps_per_batch", [1, 32])
@pytest.mark.parametrize("radius", [None, 0.1], ids=["sgd", "sam"])
def test_each_gradient_is_taken_at_the_weights_of_its_own_step(radius: float | None, steps_per_batch: int) -> None:
    """Autocast remembers the weights that it cast until its outermost context ends, also when they have moved."""
    model = net()
    weights = list(model.parameters())
    for inputs, targets in batches():
        backward(model, inputs, targets, torch.bfloat16)
        with torch.no_grad():
            if radius is not None:
                start = [weight.clone() for weight in weights]
                norm = torch.stack([weight.grad.square().sum() for weight in weights]).sum().sqrt()
                for weight in weights:
                    weight.add_((torch.tensor(radius, dtype=torch.float64) / norm) * weight.grad)
                with torch.enable_grad():
                    backward(model, inputs, targets, torch.bfloat16)
                for weight, before in zip(weights, start, strict=True):
                    weight.copy_(before)
            for weight in weights:
                weight.add_(weight.grad, alpha=-LR)
    found = harness.trained(
        harness.experiment(
            {} if radius is None else {"sam": SAM(radius)},
            model=net(),
            optimizer=SGD,
            epochs=EPOCHS,
            batch_size=BATCH,
            steps_per_batch=steps_per_batch,
            trainer={"precision": "bf16-mixed"},
        )
    )
    wanted = {f"model.{name}": value for name, value in model.state_dict().items()}
    harness.assert_same_bits(harness.weights_of(found), wanted)


@pytest.mark.parametrize("name", ["none", "sam", "dropout"])
def test_chunks_of_steps_do_not_matter_in_mixed_precision(name: str) -> None:
    one, many = (
        harness.trained(
            harness.experiment(harness.members(name), steps_per_batch=steps, trainer={"precision": "bf16-mixed"})
        )
        for steps in (1, 32)
    )
    harness.assert_same_bits(one, many)


def outputs(state: dict[str, Tensor]) -> Tensor:
    """Return what the trained model says of the validation part, computed in float32."""
    model = harness.small_model()
    model.load_state_dict({key.removeprefix("model."): value for key, value in harness.weights_of(state).items()})
    with torch.no_grad():
        return model.eval()(harness.blobs().val.inputs)


# In units of bfloat16's rounding, 2^-8 of the largest output, after 15 steps: twice the worst that was measured. Where
# the weights themselves are rounded, a decay by less than a rounding is lost or comes out as a whole one.
@pytest.mark.parametrize("precision, roundings", [("bf16-mixed", 1.2), ("bf16-true", 26)])
@pytest.mark.parametrize("name", harness.NAMES)
def test_low_precision_trains_to_nearly_the_outputs_of_float32(name: str, precision: str, roundings: float) -> None:
    full, low = (
        outputs(harness.trained(harness.experiment(harness.members(name), trainer={"precision": each})))
        for each in ("32-true", precision)
    )
    assert bool(torch.isfinite(low).all())
    found = float((low - full).abs().max() / full.abs().max()) * 2**8
    assert 0 < found < roundings, f"{found:.2g} roundings; if {name} amplifies them: a gentler one in harness.STRENGTHS"


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_gap_and_statistics_are_computed_in_at_least_float32(precision: str, tmp_path: Path) -> None:
    seen: dict[str, torch.dtype] = {}

    class Watched(Solo):
        def measure(self, *when: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            gap, weights = super().measure(*when)
            seen.update({key: value.dtype for key, value in [*gap.items(), *weights.items()]})
            return gap, weights

        def mean_terms(self) -> dict[str, Tensor]:
            terms = super().mean_terms()
            seen.update({key: value.dtype for key, value in terms.items()})
            return terms

    job = harness.experiment(harness.members("l2"), trainer={"precision": precision})
    state = harness.weights_of(harness.trained(job, tmp_path, module_class=Watched))
    narrow = [key for key, dtype in seen.items() if dtype.itemsize < 4]
    assert {"gap/loss", "train/loss", "val/loss", "weights/all/l2", "objective/l2"} <= seen.keys()
    assert not narrow
    recorded = {row.key: row.value for row in Journal(tmp_path / "journal.jsonl").rows()}  # the last epoch's
    matrices = torch.cat([value.double().flatten() for value in state.values() if value.ndim == 2])
    assert recorded["weights/all/l2"] == pytest.approx(float(matrices.norm()), rel=1e-6)
    assert recorded["weights/all/l1"] == pytest.approx(float(matrices.abs().sum()), rel=1e-6)
    model, val = harness.small_model(state["model.0.weight"].dtype), harness.blobs().val
    model.load_state_dict({key.removeprefix("model."): value for key, value in state.items()})
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        said = model.eval()(val.inputs.to(state["model.0.weight"].dtype))
    loss = functional.cross_entropy(said.double(), val.targets)
    assert recorded["val/loss"] == pytest.approx(float(loss), rel=1e-6)


class _Each(pl.Callback):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.weights.append({name: weight.detach().clone() for name, weight in pl_module.model.named_parameters()})


class Scaled(pl.Callback):
    """Trains with a gradient scaler that starts at ``scale``, on a CPU, which no config can name."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def plugin(self) -> MixedPrecision:
        return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=self.scale, growth_interval=4))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        trainer.strategy.precision_plugin = self.plugin()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_averages_of_weights_are_kept_in_full_precision(precision: str) -> None:
    each = _Each()
    job = harness.experiment({"ema": EMA(0.999)}, epochs=10, trainer={"precision": precision})
    start = {name: weight.detach().clone() for name, weight in job.model.named_parameters()}
    state = harness.trained(job, callbacks=[each])
    assert state["cocktail.members.ema.strength"].dtype == torch.float64
    assert len(each.weights) == 50
    for name, initial in start.items():
        average = initial.double()
        for step, weights in enumerate(each.weights):
            decay = min(0.999, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * weights[name].double()
        found = state["cocktail.members.ema.average_" + name.replace(".", "__")]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip", [None, 0.05], ids=["plain", "clipped"])
@pytest.mark.parametrize("scale, skipped", [(2.0**10, 0), (2.0**24, 3)], ids=["fits", "overflows"])
def test_a_scaled_step_clips_what_is_unscaled_and_a_skipped_one_changes_nothing(
    clip: float | None, scale: float, skipped: int
) -> None:
    model, strength, decay = net(), 0.2, 0.9
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=LR), Scaled(scale).plugin().scaler
    averages, taken, total = [weight.detach().clone() for weight in model.parameters()], 0, 0
    steps: list[None] = []
    optimizer.register_step_post_hook(lambda *_: steps.append(None))
    for inputs, targets in batches():
        backward(model, inputs, targets, torch.float16, scaler.get_scale())
        scaler.scale(torch.ones(()))  # it wants to have been asked
        scaler.unscale_(optimizer)
        factor = 1.0
        if clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            assert norm > clip or not torch.isfinite(norm)  # it does clip
            factor = float(clip / (norm + 1e-6))
        scaler.step(optimizer)
        scaler.update()
        total += 1
        if len(steps) == taken:
            continue
        with torch.no_grad():
            for weight, average in zip(model.parameters(), averages, strict=True):
                if weight.ndim == 2:
                    weight.copy_(functional.softshrink(weight, strength * LR * factor))
                share = 1 - (min(decay, (taken + 1) / (taken + 10)) if taken else 0.0)
                average.copy_((1 - share) * average + share * weight)
        taken += 1
    assert total - taken >= skipped
    assert (total == taken) == (skipped == 0)

    job = harness.experiment(
        {"l1": L1(strength), "ema": EMA(decay)}, model=net(), optimizer=SGD, epochs=EPOCHS, batch_size=BATCH
    )
    object.__setattr__(job.recipe, "clip", clip)
    found = harness.trained(job, callbacks=[Scaled(scale)])
    wanted = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.testing.assert_close(harness.weights_of(found), wanted, rtol=0, atol=1e-6)
    assert int(found["cocktail.members.ema.updates"]) == taken
    assert int(found["cocktail.keys.step"]) == total
    for (name, _), average in zip(model.named_parameters(), averages, strict=True):
        kept = found["cocktail.members.ema.average_" + name.replace(".", "__")]
        torch.testing.assert_close(kept, average, rtol=0, atol=1e-6)


def test_a_step_that_is_skipped_leaves_every_weight_as_it_was() -> None:
    each = _Each()
    scaled = Scaled(2.0**100)  # it is halved at each step, so never fits here
    job = harness.experiment({**harness.members("l1"), **harness.members("weight_decay"), **harness.members("ema")})
    before = {name: weight.detach().clone() for name, weight in job.model.named_parameters()}
    state = harness.trained(job, callbacks=[each, scaled])
    assert len(each.weights) == 15
    for weights in each.weights:
        harness.assert_same_bits(weights, before)
    assert float(state["cocktail.members.ema.updates"]) == 0


def test_the_scale_goes_on_in_a_resumed_run(tmp_path: Path) -> None:
    def make() -> harness.Experiment:
        return harness.experiment(harness.members("l1"))

    uninterrupted = harness.trained(make(), tmp_path / "whole", callbacks=[Scaled(2.0**24)])
    harness.assert_same_bits(uninterrupted, harness.cut_and_resumed(make, 7, tmp_path, [Scaled(2.0**24)]))
    scales = [
        checkpoint_files.read(tmp_path / folder / "checkpoints" / "last.ckpt")["MixedPrecision"]
        for folder in ("whole", "b")
    ]
    assert scales[0] == scales[1]
    assert scales[0]["scale"] < 2.0**24
