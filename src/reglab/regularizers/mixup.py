"""Mixup: train on convex combinations of pairs of examples."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from reglab import draws
from reglab.regularizers.base import Batch, Objective, Outcome, Regularizer

_PROPOSALS = 16  # each is accepted with probability > 0.95, so all fail once in 10^20 draws


def log_gamma_draw(shape: Tensor, stream: Tensor) -> Tensor:
    """Return the logarithm of a Gamma(shape, 1) draw, 0-dim, without a branch or a loop on values.

    Marsaglia & Tsang (2000), A simple method for generating gamma variables, for ``shape + 1``, from a fixed number of
    proposals of which the first accepted counts; then ``G(a) = G(a + 1) * U^(1/a)``, in logarithms since for small
    ``a`` the draw itself underflows.
    """
    counter = torch.arange(_PROPOSALS, device=stream.device)
    d = shape + 2.0 / 3.0
    normal = draws.normal(draws.key(stream, 0), counter).to(shape.dtype)
    uniform = 1 - draws.uniform(draws.key(stream, 1), counter).to(shape.dtype)
    root = 1 + normal / (9 * d).sqrt()
    cube = root.clamp(min=1e-6) ** 3
    accepted = (root > 0) & (uniform.log() < 0.5 * normal.square() + d * (1 - cube + cube.log()))
    first = accepted.to(torch.uint8).argmax()  # the first of equal maxima
    boost = 1 - draws.uniform(draws.key(stream, 2), counter[:1]).to(shape.dtype)[0]
    return (d * cube.gather(0, first[None])[0]).log() + boost.log() / shape


def symmetric_beta_draw(alpha: Tensor, stream: Tensor) -> Tensor:
    """Return a Beta(alpha, alpha) draw, 0-dim; exactly 1 at ``alpha = 0``."""
    safe = torch.where(alpha > 0, alpha, torch.ones_like(alpha))
    first = log_gamma_draw(safe, draws.key(stream, 0))
    second = log_gamma_draw(safe, draws.key(stream, 1))
    return torch.where(alpha > 0, torch.sigmoid(first - second), torch.ones_like(alpha))


class Mixup(Regularizer):
    """Train on ``share * x + (1 - share) * x'`` against both targets, ``share ~ Beta(strength, strength)`` each step.

    Each example's partner is its neighbour in the (shuffled) batch, in pairs, not a second permutation: as random, and
    the same pairs on one rank or two (of an even batch each). The last example of an odd batch stays as it is.

    strength: alpha, >= 0; 0 mixes nothing. Usual values: 0.1 to 0.4. Source: Zhang et al. (2018), mixup: beyond
    empirical risk minimization.
    """

    claims: ClassVar[frozenset[str]] = frozenset({"mixing"})
    strength: Tensor

    def __init__(self, strength: float = 0.2) -> None:
        super().__init__()
        self.hyper(strength=strength, minimum=0)

    def on_objective(self, objective: Objective) -> Objective:
        def mixed(model: nn.Module, batch: Batch) -> Outcome:
            share = symmetric_beta_draw(self.strength, self.keys.stream(self.name))
            position = torch.arange(batch.inputs.shape[0], device=batch.inputs.device)
            partner = torch.where(position ^ 1 < position.shape[0], position ^ 1, position)
            portion = share.to(batch.inputs.dtype)
            inputs = portion * batch.inputs + (1 - portion) * batch.inputs[partner]
            targets = [(share.to(weight.dtype) * weight, target) for weight, target in batch.targets]
            targets += [
                ((1 - share).to(weight.dtype) * weight.expand(position.shape)[partner], target[partner])
                for weight, target in batch.targets
            ]
            return objective(model, Batch(inputs, targets, batch.index))

        return mixed
