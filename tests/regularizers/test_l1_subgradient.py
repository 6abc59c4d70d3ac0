import torch

from reglab.regularizers import L1, L1Subgradient
from regularizers.loop import Loop, least_squares, linear

DESIGN, TARGET = least_squares()


def run(member, steps):
    optimizer = lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.5)  # noqa: E731 - an optimizer, by name
    return Loop(linear(12), {"member": member}, optimizer).run(DESIGN, TARGET, steps).weights["weight"][0].detach()


def test_slope_of_the_penalty_is_the_strength_times_the_sign():
    weight = torch.tensor([[-2.0, 0.5], [0.0, -0.1]], requires_grad=True)
    penalty = L1Subgradient(0.3).penalty({"weight": weight, "bias": torch.ones(2)})
    torch.testing.assert_close(penalty.detach(), torch.tensor(0.3 * 2.6, dtype=torch.float64), atol=1e-7, rtol=0)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, torch.tensor([[-0.3, 0.3], [0.0, -0.3]]))


def test_follows_the_loss_and_the_sign_step_by_step():
    loop = Loop(linear(12), {"l1": L1Subgradient(0.2)}, lambda weights: torch.optim.SGD(weights, lr=0.1))
    weight = loop.weights["weight"][0].detach().clone()
    for _ in range(10):
        outcome = loop.step(DESIGN, TARGET)
        torch.testing.assert_close(outcome.terms["l1"].detach(), 0.2 * weight.abs().sum(), atol=1e-12, rtol=0)
        weight -= 0.1 * (DESIGN.T @ (DESIGN @ weight - TARGET) / len(TARGET) + 0.2 * weight.sign())
        torch.testing.assert_close(loop.weights["weight"][0].detach(), weight, atol=1e-12, rtol=0)


def test_never_reaches_zero_where_the_proximal_step_does():
    jittering, exact = run(L1Subgradient(0.1), 300), run(L1(0.1), 300)
    assert (exact == 0).sum() == 8
    assert (jittering != 0).all()
    assert jittering[exact == 0].abs().max() < 0.05  # near zero, and no nearer than a step
    torch.testing.assert_close(jittering[exact != 0], exact[exact != 0], atol=0.05, rtol=0)
