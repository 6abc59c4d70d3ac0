import pytest
import sklearn.linear_model
import torch
from torch import nn

from reglab.regularizers import L2
from regularizers.loop import OPTIMIZERS, Loop, least_squares, linear

DESIGN, TARGET = least_squares()


# Adam with a constant learning rate circles the minimum of a smooth objective, so it is no test of
# the minimum.
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_lands_on_ridge(optimizer):
    ridge = sklearn.linear_model.Ridge(alpha=len(TARGET) * 0.3, fit_intercept=False, solver="cholesky")
    expected = torch.from_numpy(ridge.fit(DESIGN.numpy(), TARGET.numpy()).coef_)
    make, steps = OPTIMIZERS[optimizer]
    loop = Loop(linear(12), {"l2": L2(0.3)}, make).run(DESIGN, TARGET, steps)
    torch.testing.assert_close(loop.weights["weight"][0].detach(), expected, atol=1e-8, rtol=0)
    assert (loop.weights["weight"] != 0).all()


def test_penalty_is_half_the_strength_times_the_squares_of_the_weights_only():
    weights = {"a": torch.tensor([[1.0, -2.0]]), "bias": torch.tensor([10.0]), "b": torch.full((1, 1, 3), 2.0)}
    penalty = L2(0.5).penalty(weights)
    assert float(penalty) == 0.25 * (1 + 4 + 3 * 4)
    assert float(L2(0.5, where="bias").penalty(weights)) == 25
    assert L2(0.5, where="c.*").penalty(weights) is None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equals_the_weight_decay_of_torch_sgd(momentum):
    def net():
        return nn.Sequential(linear(12, 5, bias=True), nn.Tanh(), linear(5, 1, bias=True))

    loop = Loop(net(), {"l2": L2(0.1)}, lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=momentum))
    loop.run(DESIGN, TARGET, 20)

    model = net()
    decayed = [weight for weight in model.parameters() if weight.ndim == 2]
    others = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=momentum)
    for _ in range(20):
        optimizer.zero_grad()
        ((model(DESIGN).squeeze(1) - TARGET).square().mean() / 2).backward()
        optimizer.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(loop.weights[name], weight, atol=1e-12, rtol=0)


def test_the_term_is_reported_apart_from_the_data_loss():
    loop = Loop(linear(12), {"l2": L2(0.3)}, lambda weights: torch.optim.SGD(weights, lr=0.1))
    weight = loop.weights["weight"].detach().clone()
    outcome = loop.step(DESIGN, TARGET)
    error = (DESIGN @ weight[0] - TARGET).square().mean() / 2
    assert set(outcome.terms) == {"task", "l2"}
    torch.testing.assert_close(outcome.terms["task"].detach(), error, atol=1e-12, rtol=0)
    torch.testing.assert_close(outcome.loss.detach(), error + 0.15 * weight.square().sum(), atol=1e-12, rtol=0)
