import pytest
import torch

from reglab.regularizers import L2, Batch, Cocktail, Flooding
from regularizers.loop import Loop, least_squares, linear

DESIGN, TARGET = least_squares()


def slope_of(weight):
    return DESIGN.T @ (DESIGN @ weight - TARGET) / len(TARGET)


def test_above_the_level_it_descends_and_below_it_climbs():
    start = linear(12).weight[0].detach()
    loss = float((DESIGN @ start - TARGET).square().mean() / 2)
    for level, sign in ((loss / 2, 1), (loss * 2, -1)):
        loop = Loop(linear(12), {"flooding": Flooding(level)}, lambda weights: torch.optim.SGD(weights, lr=0.1))
        outcome = loop.step(DESIGN, TARGET)
        assert float(outcome.loss.detach()) == pytest.approx(abs(loss - level) + level)
        assert float(outcome.terms["task"].detach()) == pytest.approx(loss)
        expected = start - sign * 0.1 * slope_of(start)
        torch.testing.assert_close(loop.weights["weight"][0].detach(), expected, atol=1e-12, rtol=0)


def test_training_stays_at_the_level():
    loop = Loop(linear(12), {"flooding": Flooding(0.5)}, lambda weights: torch.optim.SGD(weights, lr=0.02))
    loop.run(DESIGN, TARGET, 150)
    losses = [float(loop.step(DESIGN, TARGET).terms["task"].detach()) for _ in range(20)]
    assert min(losses) > 0.4
    assert min(losses) < 0.5 < max(losses)


def test_the_mean_over_ranks_is_what_is_flooded():
    """This rank is above the level and the mean below it: the gradient has to turn round all the
    same.
    """
    member = Flooding(1.0)
    cocktail = Cocktail({"flooding": member}, 0, "regression")
    cocktail.bind(lambda loss: loss + (0.25 - loss).detach())  # the mean is 0.25
    weight = torch.tensor(2.0, requires_grad=True)
    objective = cocktail.objective(lambda outputs, targets: outputs)
    model = torch.nn.Identity()
    outcome = objective(model, Batch(weight[None], [(torch.ones(()), torch.zeros(1))], torch.arange(1)))
    (gradient,) = torch.autograd.grad(outcome.loss, weight)
    assert float(gradient) == -1
    assert float(outcome.terms["flooding"].detach()) == pytest.approx(1.5)  # |0.25 - 1| + 1 - 0.25


def test_what_wraps_later_is_not_flooded():
    loop = Loop(
        linear(12),
        {"flooding": Flooding(0.0), "l2": L2(1.0)},
        lambda weights: torch.optim.SGD(weights, lr=0.1),
    )
    outcome = loop.step(DESIGN, TARGET)
    assert set(outcome.terms) == {"task", "flooding", "l2"}
    assert float(outcome.terms["flooding"].detach()) == 0


def test_a_level_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"strength must be finite and >= 0, got -0\.1"):
        Flooding(-0.1)
