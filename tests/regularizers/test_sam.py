import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from reglab.data import Part
from reglab.regularizers import L2, SAM, Cocktail
from reglab.training.recipe import Recipe
from reglab.training.solo import Solo
from reglab.training.trainer import quiet_lightning
from regularizers.loop import Loop, least_squares, linear
from shards import Ranks, cut

DESIGN, TARGET = least_squares(rows=20)
RHO, LR = 0.3, 0.1


def net():
    return nn.Sequential(linear(12, 5, bias=True), nn.BatchNorm1d(5).double(), nn.Tanh(), linear(5, 1, bias=True))


def loss_of(model, decay=0.0):
    penalty = sum(weight.square().sum() for weight in model.parameters() if weight.ndim == 2)
    return (model(DESIGN).squeeze(1) - TARGET).square().mean() + decay / 2 * penalty


def by_brute_force(steps, decay=0.0):
    """Two gradients a step, written out; the running statistics follow the first forward alone."""
    model = net()
    for _ in range(steps):
        loss = loss_of(model, decay)
        statistics = [buffer.clone() for buffer in model.buffers()]
        weights = list(model.parameters())
        gradients = torch.autograd.grad(loss, weights)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        local = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight += RHO * gradient / norm
        above = torch.autograd.grad(loss_of(model, decay), weights)
        with torch.no_grad():
            for weight, old, gradient in zip(weights, local, above, strict=True):
                weight.copy_(old - LR * gradient)
            for buffer, value in zip(model.buffers(), statistics, strict=True):
                buffer.copy_(value)
    return model


def by_solo(members, steps):
    """The same through the engine."""
    rows = torch.arange(20)
    even, none = torch.ones(20), torch.zeros(20, dtype=torch.bool)
    part = Part(DESIGN, TARGET, rows, even, none, TARGET)
    recipe = Recipe({"_target_": "torch.optim.SGD", "lr": LR}, batch_size=20, epochs=steps)
    module = Solo(net(), Cocktail(members, 0, "regression"), part, "regression", recipe)
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=steps, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, train_dataloaders=module.loader())
    return module.model


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_equals_two_gradients_a_step_and_moves_batch_norm_once(decay):
    members = {"sam": SAM(RHO), **({"l2": L2(decay)} if decay else {})}
    expected = by_brute_force(3, decay).state_dict()
    for name, value in by_solo(members, 3).state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-10, rtol=0)


def test_one_step_on_a_quadratic_has_a_closed_form():
    loop = Loop(linear(12), {"sam": SAM(RHO)}, lambda weights: torch.optim.SGD(weights, lr=LR))
    hessian, start = DESIGN.T @ DESIGN / 20, loop.weights["weight"][0].detach().clone()
    gradient = hessian @ start - DESIGN.T @ TARGET / 20
    outcome = loop.step(DESIGN, TARGET)
    expected = start - LR * (gradient + RHO * hessian @ gradient / gradient.norm())
    torch.testing.assert_close(loop.weights["weight"][0].detach(), expected, atol=1e-10, rtol=0)
    here = (DESIGN @ start - TARGET).square().mean() / 2
    assert float(outcome.terms["task"].detach()) == pytest.approx(float(here))


def test_where_the_slope_vanishes_it_stays():
    loop = Loop(linear(12), {"sam": SAM(RHO)}, lambda weights: torch.optim.SGD(weights, lr=LR))
    with torch.no_grad():
        loop.weights["weight"].zero_()
    loop.step(DESIGN, torch.zeros(20, dtype=torch.float64))
    assert (loop.weights["weight"] == 0).all()


def test_two_of_them_climb_one_after_the_other():
    loop = Loop(linear(12), {"a": SAM(0.2), "b": SAM(0.1)}, lambda weights: torch.optim.SGD(weights, lr=LR))
    hessian, start = DESIGN.T @ DESIGN / 20, loop.weights["weight"][0].detach().clone()

    def gradient(weight):
        return hessian @ weight - DESIGN.T @ TARGET / 20

    def inner(weight):
        return gradient(weight + 0.2 * gradient(weight) / gradient(weight).norm())

    loop.step(DESIGN, TARGET)
    expected = start - LR * inner(start + 0.1 * inner(start) / inner(start).norm())
    torch.testing.assert_close(loop.weights["weight"][0].detach(), expected, atol=1e-10, rtol=0)


def test_a_radius_below_zero_is_refused():
    with pytest.raises(ValueError, match="strength must be finite and >= 0, got -1"):
        SAM(-1)


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_on_parts_of_the_weights_it_climbs_along_the_slope_of_the_whole(parts):
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(16, 16, generator=generator, dtype=torch.float64)
    hessian, start = half @ half.T, torch.randn(16, generator=generator, dtype=torch.float64)
    ranks = Ranks(parts)

    def split(flat):  # a weight and a bias of 4 rows: with 3 and with 5 parts, some are empty
        return {"weight": flat[:12].reshape(4, 3), "bias": flat[12:]}

    def run(rank):
        cocktail = Cocktail({"a": SAM(0.2), "b": SAM(0.1)}, 0, "regression")
        cocktail.bind(total=ranks.add)

        def gradient(offset=None):
            there = start
            if offset is not None:
                there = start + torch.cat([ranks.gather(offset[name]).flatten() for name in ("weight", "bias")])
            gradients = split(hessian @ there)
            return {name: cut(gradient, parts)[rank] for name, gradient in gradients.items()}, None

        return cocktail.gradient(gradient)()[0]

    def inner(weight):
        return hessian @ (weight + 0.2 * hessian @ weight / (hessian @ weight).norm())

    expected = split(inner(start + 0.1 * inner(start) / inner(start).norm()))
    answers = ranks.run(run)
    for name in expected:
        whole = torch.cat([answer[name] for answer in answers])
        torch.testing.assert_close(whole, expected[name], rtol=1e-12, atol=0)
