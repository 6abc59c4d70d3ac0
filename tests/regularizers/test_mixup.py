import pytest
import torch
from scipy import stats
from torch import nn

from reglab.core.errors import UserError
from reglab.regularizers import Batch, Cocktail, Mixup
from reglab.rng import counter_rng
from reglab.rng.beta import log_gamma_draws, symmetric_beta_draw
from regularizers.loop import cross_entropy

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1, 2, 0])
WEIGHTS = torch.rand(6, generator=GENERATOR, dtype=torch.float64)


class Seen(nn.Module):
    """Says its inputs and remembers them."""

    def forward(self, inputs):
        self.inputs = inputs
        return inputs


def mixed(rows, strength=1.0, weight=None, step=0):
    """Return the loss of one mixed step on the first ``rows``, the inputs that the model saw, and
    the share.
    """
    cocktail = Cocktail({"mixup": Mixup(strength)}, 0, "classification")
    cocktail.keys.step.fill_(step)
    weight = torch.ones((), dtype=torch.float64) if weight is None else weight[:rows]
    model, marked = Seen(), torch.cat([LOGITS[:rows], torch.eye(rows, dtype=torch.float64)], 1)
    objective = cocktail.objective(lambda outputs, targets: cross_entropy(outputs[:, :3], targets))
    outcome = objective(model, Batch(marked, [(weight, CLASSES[:rows])], torch.arange(rows)))
    # The columns of the identity show how much of which example each row is made of.
    return float(outcome.loss), model.inputs[:, :3], model.inputs[:, 3:]


def one_loss(logits, target):
    return float(logits.exp().sum().log() - logits[target])


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["even", "weighted"])
def test_equals_a_loop_over_pairs(weight):
    loss, observed, made_of = mixed(6, weight=weight)
    share = float(made_of[0, 0])
    assert 0 < share < 1
    expected = 0.0
    for first, second in ((0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)):
        inputs = share * LOGITS[first] + (1 - share) * LOGITS[second]
        torch.testing.assert_close(observed[first], inputs, atol=1e-12, rtol=0)
        for part, row in ((share, first), (1 - share, second)):
            expected += part * one_loss(inputs, CLASSES[row]) * (1.0 if weight is None else float(weight[row]))
    assert loss == pytest.approx(expected / 6, abs=1e-12)


def test_the_last_example_of_an_odd_batch_stays_as_it_is():
    loss, observed, made_of = mixed(5)
    torch.testing.assert_close(observed[4], LOGITS[4], atol=1e-12, rtol=0)
    share = float(made_of[0, 0])
    expected = one_loss(LOGITS[4], CLASSES[4])
    for first, second in ((0, 1), (1, 0), (2, 3), (3, 2)):
        inputs = share * LOGITS[first] + (1 - share) * LOGITS[second]
        expected += share * one_loss(inputs, CLASSES[first]) + (1 - share) * one_loss(inputs, CLASSES[second])
    assert loss == pytest.approx(expected / 5, abs=1e-12)


def test_without_strength_nothing_is_mixed():
    loss, observed, made_of = mixed(6, strength=0.0)
    assert torch.equal(observed, LOGITS)
    assert torch.equal(made_of, torch.eye(6, dtype=torch.float64))
    assert loss == float(cross_entropy(LOGITS, CLASSES).mean())


def test_each_step_has_a_share_of_its_own():
    shares = {float(mixed(2, step=step)[2][0, 0]) for step in range(20)}
    assert len(shares) == 20


@pytest.mark.parametrize("shape", [0.1, 0.4, 1.0, 3.0])
def test_what_the_share_is_made_of_follows_a_gamma_distribution(shape):
    keys = torch.vmap(lambda step: counter_rng.key(1, step))(torch.arange(20_000))
    number = torch.tensor(shape, dtype=torch.float64)
    logarithms = log_gamma_draws(number.expand(keys.shape), keys)
    assert stats.kstest(logarithms.exp().numpy(), stats.gamma(shape).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0])
def test_the_share_follows_a_beta_distribution(alpha):
    keys = torch.vmap(lambda step: counter_rng.key(0, step, 5))(torch.arange(20_000))
    strength = torch.tensor(alpha, dtype=torch.float64)
    shares = torch.vmap(lambda key: symmetric_beta_draw(strength, key))(keys)
    assert shares.dtype == torch.float64
    assert bool(((shares >= 0) & (shares <= 1)).all())
    assert stats.kstest(shares.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_members_of_a_pack_draw_their_solo_shares_each_with_its_own_alpha():
    alphas = torch.tensor([0.0, 0.1, 1.0, 50.0], dtype=torch.float64)
    keys = torch.vmap(lambda seed: counter_rng.key(seed, 3))(torch.arange(4))
    together = torch.vmap(symmetric_beta_draw)(alphas, keys)
    solo = [symmetric_beta_draw(alpha, key) for alpha, key in zip(alphas, keys, strict=True)]
    assert torch.equal(together, torch.stack(solo))
    assert float(together[0]) == 1


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 1e6])
def test_extreme_alphas_stay_finite(alpha):
    strength = torch.tensor(alpha, dtype=torch.float64)
    shares = torch.stack([symmetric_beta_draw(strength, counter_rng.key(step)) for step in range(50)])
    assert torch.isfinite(shares).all()
    if alpha < 1:
        assert bool(((shares < 1e-3) | (shares > 1 - 1e-3)).all())
    else:
        assert (shares - 0.5).abs().max() < 0.01


def test_two_mixups_are_refused():
    with pytest.raises(UserError, match="regularizers mixup and mixup_2 both own the mixing; keep one of them"):
        Cocktail({"mixup": Mixup(), "mixup_2": Mixup()}, 0, "classification")
