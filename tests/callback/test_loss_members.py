"""Flooding and SAM in a user's own training, against loops written by hand."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW
from torch.utils.data import DataLoader

from callback.own_module import LIGHTNING_WARNS, ManualModule, OwnModule, assert_same, loaders, sgd, trainer, weights_of
from callback.test_own_loss import cross_entropies
from callback.test_regularize import Dealt, SaveAtEnd
from reglab.callback.regularize import Regularize
from reglab.core.errors import UserError
from reglab.regularizers import EMA, L2, SAM, Flooding, Gradient, LabelSmoothing, Mixup, Regularizer

pytestmark = LIGHTNING_WARNS
LEVEL, RADIUS, RIDGE, SMOOTH = 1.03, 0.3, 0.05, 0.2


def adamw(weights: Any) -> Any:
    return AdamW(weights, lr=0.01, weight_decay=0.1)


class Normed(OwnModule):
    """With BatchNorm, and dropout that is not ours."""

    def __init__(self, make: Any = sgd, dropout: float = 0.0) -> None:
        super().__init__(make)
        self.norm, self.share = nn.BatchNorm1d(6).double(), dropout

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(functional.dropout(self.norm(inputs), self.share, self.training))
        return outputs


def gradient_of(module: nn.Module, loss: Callable[[], Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss(), list(module.parameters())))


def by_hand(module: OwnModule, step: Callable[[OwnModule, list[Any]], list[Tensor]], accumulate: int = 1) -> OwnModule:
    """Train for two epochs by gradients that ``step`` computes of a step's batches."""
    optimizer: Any = module.configure_optimizers()
    for _ in range(2):
        batches = list(loaders()[0])
        for first in range(0, len(batches), accumulate):
            for weight, gradient in zip(
                module.parameters(), step(module, batches[first : first + accumulate]), strict=True
            ):
                weight.grad = gradient
            optimizer.step()
    return module


def flooded(loss: Tensor) -> Tensor:
    return (loss - LEVEL).abs() + LEVEL


def mean_loss(module: nn.Module, batches: list[Any]) -> Tensor:
    losses = [functional.cross_entropy(module(inputs), targets) for inputs, targets in batches]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("given", [{"task": "classification"}, {"loss": cross_entropies}], ids=["task", "loss"])
@pytest.mark.parametrize("make", [sgd, adamw])
def test_flooding_acts_on_the_loss_that_training_step_returns(given: dict[str, Any], make: Any) -> None:
    callback, module = Regularize([Flooding(LEVEL)], every=None, **given), OwnModule(make)
    trainer([callback]).fit(module, *loaders())
    below = []

    def step(module: OwnModule, batches: list[Any]) -> list[Tensor]:
        below.append(bool(mean_loss(module, batches) < LEVEL))
        return gradient_of(module, lambda: flooded(mean_loss(module, batches)))

    reference = by_hand(OwnModule(make), step)
    assert True in below
    assert False in below
    assert_same(weights_of(module), weights_of(reference), 1e-12)


def test_flooding_of_a_dict_keeps_the_rest_and_reports_what_it_adds() -> None:
    class Dicts(OwnModule):
        seen: Any = ()

        def training_step(self, batch: Any) -> Any:  # type: ignore[override]  # Lightning allows it without batch_idx
            loss = functional.cross_entropy(self(batch[0]), batch[1])
            self.seen = (*self.seen, float(loss.detach()))
            return {"loss": loss, "rest": len(batch[0])}

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert outputs["rest"] == 16

    callback, module = Regularize([Flooding(2.0)], "classification"), Dicts()
    trainer([callback], epochs=1).fit(module, *loaders())
    assert callback.metrics["objective/flooding"] == pytest.approx(sum(2 * (2 - loss) for loss in module.seen) / 3)
    assert "training_step" not in vars(module)


def sam_step(ridge: float = 0.0, flood: bool = False) -> Callable[[OwnModule, list[Any]], list[Tensor]]:
    """Return a step of SAM as Foret et al. write it, on a copy of the module moved to the ascent point."""

    def objective(module: nn.Module, batches: list[Any]) -> Tensor:
        loss = mean_loss(module, batches)
        penalty = sum((weight * weight).sum() for weight in module.parameters() if weight.ndim == 2)
        return (flooded(loss) if flood else loss) + ridge / 2 * penalty

    def step(module: OwnModule, batches: list[Any]) -> list[Tensor]:
        state = torch.get_rng_state()
        gradients = gradient_of(module, lambda: objective(module, batches))
        torch.set_rng_state(state)  # the second pass drops the same units
        norm = torch.cat([gradient.ravel() for gradient in gradients]).norm()
        moved = copy.deepcopy(module)
        with torch.no_grad():
            for weight, gradient in zip(moved.parameters(), gradients, strict=True):
                weight += RADIUS * gradient / norm
        return gradient_of(moved, lambda: objective(moved, batches))

    return step


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("ridge, dropout", [(0.0, 0.0), (RIDGE, 0.4)])
def test_sam_equals_two_gradients_by_hand(make: Any, accumulate: int, ridge: float, dropout: float) -> None:
    """With BatchNorm, whose statistics move once, and random draws, which are the same in both passes."""
    members: list[Regularizer] = [SAM(RADIUS)] + ([L2(ridge)] if ridge else [])
    callback, module = Regularize(members, loss=cross_entropies, every=None), Normed(make, dropout)
    torch.manual_seed(5)
    options = {"accumulate_grad_batches": accumulate, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    trainer([callback], **options).fit(module, *loaders())
    torch.manual_seed(5)
    reference = Normed(make, dropout)
    torch.manual_seed(5)
    by_hand(reference, sam_step(ridge), accumulate)
    assert_same(weights_of(module), weights_of(reference), 1e-10)
    torch.testing.assert_close(module.norm.running_var, reference.norm.running_var, rtol=0, atol=1e-12)
    assert int(module.norm.num_batches_tracked) == 6


def test_sam_in_flooding_with_our_dropout_and_the_users_own_step_as_its_loss() -> None:
    callback = Regularize([SAM(RADIUS), Flooding(LEVEL)], loss=lambda module, batch: module.training_step(batch, 0))
    module = OwnModule()
    trainer([callback], num_sanity_val_steps=0).fit(module, *loaders())
    assert_same(weights_of(module), weights_of(by_hand(OwnModule(), sam_step(flood=True))), 1e-10)
    repeated = OwnModule(dropout=0.5)
    once = Regularize([SAM(0.0)], loss=cross_entropies, every=None)  # a radius of 0 changes nothing if draws repeat
    trainer([once]).fit(repeated, *loaders())
    plain = OwnModule(dropout=0.5)
    trainer([Regularize([L2(0.0)], loss=cross_entropies, every=None)]).fit(plain, *loaders())
    assert_same(weights_of(repeated), weights_of(plain), 1e-12)


def test_the_gradient_of_sam_is_clipped() -> None:
    module = OwnModule()
    callback = Regularize([SAM(RADIUS)], loss=cross_entropies, every=None)
    trainer([callback], gradient_clip_val=0.1).fit(module, *loaders())

    def step(module: OwnModule, batches: list[Any]) -> list[Tensor]:
        gradients = sam_step()(module, batches)
        norm = torch.cat([gradient.ravel() for gradient in gradients]).norm()
        return [gradient * min(1.0, 0.1 / float(norm + 1e-6)) for gradient in gradients]

    assert_same(weights_of(module), weights_of(by_hand(OwnModule(), step)), 1e-10)


class Doubling(Regularizer):
    """A user's own: half the gradient at the weights and half of that at twice the weights."""

    neutral = None

    def on_gradient(self, gradient: Gradient) -> Gradient:
        def wrapped(offset: Any = None) -> Any:
            here, outcome = gradient(offset)
            there, _ = gradient({name: weight.detach().clone() for name, weight in self.weights.items()})
            return {name: (here[name] + there[name]) / 2 for name in here}, outcome

        return wrapped

    def on_model(self, model: nn.Module) -> nn.Module:
        self.__dict__["weights"] = dict(model.named_parameters())
        return model


def test_a_users_own_member_gets_gradients_at_other_weights() -> None:
    module = OwnModule()
    trainer([Regularize([Doubling()], loss=cross_entropies, every=None)]).fit(module, *loaders())

    def step(module: OwnModule, batches: list[Any]) -> list[Tensor]:
        moved = copy.deepcopy(module)
        with torch.no_grad():
            for weight in moved.parameters():
                weight *= 2
        both = [gradient_of(net, lambda net=net: mean_loss(net, batches)) for net in (module, moved)]  # type: ignore[misc]  # bound at once
        return [(here + there) / 2 for here, there in zip(*both, strict=True)]

    assert_same(weights_of(module), weights_of(by_hand(OwnModule(), step)), 1e-10)


def smoothed(module: nn.Module, batches: list[Any]) -> Tensor:
    losses = [functional.cross_entropy(module(x), y, label_smoothing=SMOOTH) for x, y in batches]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_label_smoothing_is_that_of_torch(accumulate: int) -> None:
    module = OwnModule(adamw)
    callback = Regularize([LabelSmoothing(SMOOTH)], "classification", every=None)
    trainer([callback], accumulate_grad_batches=accumulate).fit(module, *loaders())
    reference = by_hand(
        OwnModule(adamw), lambda net, batches: gradient_of(net, lambda: smoothed(net, batches)), accumulate
    )
    assert_same(weights_of(module), weights_of(reference), 1e-12)


def test_label_smoothing_inside_flooding_inside_sam() -> None:
    members = [LabelSmoothing(SMOOTH), Flooding(LEVEL), SAM(RADIUS)]
    module = OwnModule()
    trainer([Regularize(members, "classification", loss=cross_entropies)]).fit(module, *loaders())

    def step(net: OwnModule, batches: list[Any]) -> list[Tensor]:
        gradients = gradient_of(net, lambda: flooded(smoothed(net, batches)))
        norm = torch.cat([gradient.ravel() for gradient in gradients]).norm()
        moved = copy.deepcopy(net)
        with torch.no_grad():
            for weight, gradient in zip(moved.parameters(), gradients, strict=True):
                weight += RADIUS * gradient / norm
        return gradient_of(moved, lambda: flooded(smoothed(moved, batches)))

    assert_same(weights_of(module), weights_of(by_hand(OwnModule(), step)), 1e-10)


class Seeing(OwnModule):
    """Keeps the inputs that training_step gets."""

    seen: tuple[Tensor, ...] = ()

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        self.seen = (*self.seen, batch[0].detach().clone())
        return {"loss": super().training_step(batch, batch_idx)}


@pytest.mark.parametrize("accumulate, flood", [(1, False), (3, False), (1, True)])
def test_mixup_trains_on_mixed_inputs_against_both_targets(accumulate: int, flood: bool) -> None:
    """The share of each step is read off the inputs that training_step got."""
    members = [Mixup(0.4), *([LabelSmoothing(SMOOTH), Flooding(LEVEL)] if flood else [])]
    module = Seeing(adamw)
    callback = Regularize(members, "classification", every=None)
    trainer([callback], accumulate_grad_batches=accumulate).fit(module, *loaders())
    seen, shares, smooth = iter(module.seen), [], SMOOTH if flood else 0.0

    def mixed(net: nn.Module, batches: list[Any]) -> Tensor:
        losses = []
        for x, y in batches:
            partner = torch.arange(len(x)).reshape(-1, 2).flip(1).ravel()
            inputs, apart = next(seen), x - x[partner]
            share = float(((inputs - x[partner]) * apart).sum() / apart.square().sum())
            torch.testing.assert_close(inputs, share * x + (1 - share) * x[partner])
            outputs, shares[len(shares) :] = net(inputs), [share]
            first, second = (functional.cross_entropy(outputs, t, label_smoothing=smooth) for t in (y, y[partner]))
            losses.append(share * first + (1 - share) * second)
        return flooded(torch.stack(losses).mean()) if flood else torch.stack(losses).mean()

    reference = by_hand(
        OwnModule(adamw), lambda net, batches: gradient_of(net, lambda: mixed(net, batches)), accumulate
    )
    assert_same(weights_of(module), weights_of(reference), 1e-10)
    assert len({round(share, 6) for share in shares}) == 6 // accumulate
    assert all(0 <= share <= 1 + 1e-9 for share in shares)


class Skipping(OwnModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx == 1 else super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_step_that_the_module_skips_is_no_step_under_mixup() -> None:
    callback = Regularize([Mixup(0.4)], "classification", every=None)
    trainer([callback], epochs=1).fit(Skipping(), *loaders())
    assert int(callback.cocktail.keys.step) == 2


class OfIntegers(OwnModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return cross_entropies(self, (batch[0].double(), batch[1])).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...


def test_mixup_of_what_is_no_pair_with_floats_is_refused() -> None:
    """Mixed integers would be zeros."""
    train, val = loaders()
    given = Regularize([Mixup(0.2)], "classification", unpack=lambda batch: (batch[0], batch[1]))
    with pytest.raises(UserError, match=r"mixup changes batches of \(inputs, targets\) alone"):
        trainer([given]).fit(OwnModule(), train, val)
    integers = DataLoader([(inputs.long(), target) for inputs, target in train.dataset], 16)  # type: ignore[arg-type]  # a list is a dataset
    with pytest.raises(UserError, match=r"mixup changes inputs, which are torch\.int64; let the loader give floats"):
        trainer([Regularize([Mixup(0.2)], "classification", every=None)]).fit(OfIntegers(), integers, val)


class ByParts(OwnModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.body(batch[0]), batch[1])


class Doubled(OwnModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return 2 * super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    "module, words", [(ByParts(), "which training_step must call once a batch; it called it 0 times"),
                      (Doubled(), "takes training_step's loss for the mean classification loss")],
)  # fmt: skip
def test_label_smoothing_without_the_tasks_outputs_and_loss_is_refused(module: OwnModule, words: str) -> None:
    with pytest.raises(UserError, match=words):
        trainer([Regularize([LabelSmoothing(SMOOTH)], "classification")]).fit(module, *loaders())


@pytest.mark.filterwarnings("ignore:.*recommended to use `self.log\\('own_loss'")
def test_two_ranks_equal_one_process_on_the_joint_batch(tmp_path: Path) -> None:
    """A loss near the flood level on the joint batch is on both sides of it on parts."""
    ends = []
    for name, options in (("one", {}), ("two", {"strategy": "ddp_fork", "devices": 2})):
        path = tmp_path / f"{name}.ckpt"
        members = [SAM(RADIUS), LabelSmoothing(SMOOTH), Flooding(LEVEL), L2(RIDGE)]
        callback = Regularize(members, "classification", loss=cross_entropies, every=None)
        trainer([callback, SaveAtEnd(path)], **options).fit(Dealt(dropout=0.3))
        ends.append(torch.load(path, weights_only=True)["state_dict"])
    assert_same(ends[1], ends[0], 1e-12)


def test_a_resumed_fit_ends_as_one_that_was_never_interrupted(tmp_path: Path) -> None:
    """Bit for bit, with our dropout; rows kept or read again."""

    def fit(epochs: int, memory: float, resume: Path | None = None) -> tuple[Any, OwnModule, Regularize]:
        members = [SAM(RADIUS), Flooding(LEVEL), L2(RIDGE), EMA(0.9)]
        callback, module = Regularize(members, loss=cross_entropies, memory_mb=memory), OwnModule(adamw, dropout=0.3)
        run = trainer([callback], epochs=epochs)
        run.fit(module, *loaders(), ckpt_path=resume, weights_only=True if resume else None)
        return run, module, callback

    _, module, whole = fit(4, 256)
    half, _, _ = fit(2, 256)
    half.save_checkpoint(tmp_path / "middle.ckpt")
    for memory in (0, 256):
        _, again, resumed = fit(4, memory, tmp_path / "middle.ckpt")
        assert_same(weights_of(again), weights_of(module))
        assert resumed.history == whole.history[2:]


@pytest.mark.parametrize(
    "members, module, options, words",
    [
        ([Flooding(1.0)], ManualModule(), {}, "flooding needs the loss of a step, which only automatic optimization"),
        ([SAM(1.0)], ManualModule(), {}, "sam needs the loss of a step"),
        ([Flooding(1.0)], OwnModule(), {"accumulate_grad_batches": 2}, "use larger batches"),
        ([SAM(1.0), Mixup(0.2)], OwnModule(), {}, "mixup changes the batch, of which loss= and its second gradient"),
        (
            [SAM(1.0)],
            OwnModule(),
            {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))]},
            "bf16-mixed",
        ),
    ],
)
def test_where_it_cannot_act_it_says_so(members: Any, module: OwnModule, options: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        trainer([Regularize(members, "classification", loss=cross_entropies)], **options).fit(module, *loaders())


def test_a_second_gradient_of_another_loss_is_refused() -> None:
    callback = Regularize([SAM(0.1)], loss=lambda module, batch: 2 * cross_entropies(module, batch), every=None)
    with pytest.raises(UserError, match="let loss give what training_step trains on"):
        trainer([callback]).fit(OwnModule(), *loaders())


def test_a_copy_of_the_module_has_its_own_step() -> None:
    copies = []

    class Copied(OwnModule):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            copies.append(copy.deepcopy(self))

    trainer([Regularize([Flooding(9.0)], "classification")], epochs=1).fit(Copied(lambda w: SGD(w, lr=0.1)), *loaders())
    inputs, targets = next(iter(loaders()[0]))
    plain = functional.cross_entropy(copies[0](inputs), targets)
    assert torch.equal(copies[0].training_step((inputs, targets), 0), plain)
