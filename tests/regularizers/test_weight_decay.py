import pytest
import torch
from torch import nn

from reglab.regularizers import WeightDecay
from regularizers.loop import Loop, least_squares, linear

DESIGN, TARGET = least_squares()


def net(dtype):
    return nn.Sequential(linear(12, 5, bias=True), nn.Tanh(), linear(5, 1, bias=True)).to(dtype)


def by_torch(dtype, strength, steps, decay_lr):
    """AdamW of torch with decay on the weights only, following a schedule of learning rates."""
    model = net(dtype)
    decayed = [weight for weight in model.parameters() if weight.ndim == 2]
    others = [weight for weight in model.parameters() if weight.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": strength}, {"params": others, "weight_decay": 0}], lr=0.02
    )
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        ((model(DESIGN.to(dtype)).squeeze(1) - TARGET.to(dtype)).square() / 2).mean().backward()
        optimizer.step()
        history.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
        for group in optimizer.param_groups:
            group["lr"] *= decay_lr
    return history


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay_lr", [1.0, 0.8])
def test_with_adam_it_is_adamw_bit_for_bit_at_every_step(dtype, decay_lr):
    loop = Loop(net(dtype), {"decay": WeightDecay(0.5)}, lambda weights: torch.optim.Adam(weights, lr=0.02))
    for expected in by_torch(dtype, 0.5, 10, decay_lr):
        loop.step(DESIGN.to(dtype), TARGET.to(dtype))
        for name, weight in expected.items():
            assert torch.equal(loop.weights[name], weight)
        loop.optimizer.param_groups[0]["lr"] *= decay_lr


def test_with_sgd_it_shrinks_the_weights_before_the_step_along_the_slope_at_the_old_ones():
    loop = Loop(linear(12), {"decay": WeightDecay(0.5)}, lambda weights: torch.optim.SGD(weights, lr=0.1))
    weight = loop.weights["weight"][0].detach().clone()
    for _ in range(5):
        loop.step(DESIGN, TARGET)
        gradient = DESIGN.T @ (DESIGN @ weight - TARGET) / len(TARGET)
        weight = weight * (1 - 0.1 * 0.5) - 0.1 * gradient
        torch.testing.assert_close(loop.weights["weight"][0].detach(), weight, atol=1e-12, rtol=0)


def test_frozen_weights_do_not_decay():
    model = net(torch.float64)
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    rates = {name: torch.tensor(0.1) for name, _ in model.named_parameters()}
    with torch.no_grad():
        WeightDecay(1.0).before_step(model, rates)
    assert torch.equal(model[0].weight, before)
