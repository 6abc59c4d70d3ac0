"""The gradient of a step's whole objective, its rows taken in one turn or in several, on one rank or on many."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from reglab.distributed.collectives import mean_over_ranks
from reglab.distributed.parameters import Body
from reglab.regularizers import Batch, Cocktail, Objective, Outcome
from reglab.rng import counter_rng


@dataclass(frozen=True)
class Turn:
    """Rows that a rank computes at one time. idle: there was none left for it, and one stands in that counts 0."""

    batch: Batch
    idle: bool = False


class Means:
    """The contract's ``mean``: averages a loss over ranks, and over the turns that a rank takes its rows in.

    A turn is differentiated before the losses of those behind it are known, so where a member asks for a mean, passes
    without a gradient go first: each learns one mean of those that depend on each other.
    """

    def __init__(self, ranks: int) -> None:
        self._turns = 1
        self._over_ranks = mean_over_ranks if ranks > 1 else _itself
        self._calls = 0  # in this turn
        self._known: list[Tensor] = []
        self._seen: list[Tensor] = []  # by the turns, of the first call whose mean is not known

    def __call__(self, loss: Tensor) -> Tensor:
        if self._turns == 1:
            return self._over_ranks(loss)
        place, self._calls = self._calls, self._calls + 1
        if place < len(self._known):
            return loss + (self._known[place] - loss).detach()
        if place == len(self._known):
            self._seen.append(loss.detach())
        return loss

    def begin_turn(self) -> None:
        self._calls = 0

    def learn(self) -> bool:
        """Take in what a pass over all turns has shown, and tell whether it showed anything."""
        if not self._seen:
            return False
        self._known.append(self._over_ranks(torch.stack(self._seen).mean()))
        self._seen = []
        return True

    @property
    def asked(self) -> bool:
        """Whether a member has asked for a mean in this gradient."""
        return bool(self._known)

    def begin(self, turns: int) -> None:
        """Begin a gradient, of so many turns."""
        self._turns = turns
        self._known, self._seen = [], []


class Gradient:
    """Leaves the gradient of the whole objective in the weights of ``body``.

    forward: a context for the forward pass, such as autocast. backward: differentiates a loss; told whether it is the
    step's last, after which ranks add up. rank: for draws of the model's own.
    """

    def __init__(
        self,
        body: Body,
        objective: Objective,
        cocktail: Cocktail,
        means: Means,
        forward: Callable[[], AbstractContextManager[object]],
        backward: Callable[[Tensor, bool], None],
        rank: int,
    ) -> None:
        self._body, self._objective, self._cocktail, self._means = body, objective, cocktail, means
        self._forward, self._backward, self._rank = forward, backward, rank
        self._keys = cocktail.keys
        self._seed = int(cocktail.keys.seed)
        self._modules = list(body.model.modules())
        self._turns: Sequence[Turn] = ()
        self._step = self._passes = 0
        self._asks = True  # whether a member asks for means, until it is known
        self.idle = False

    def begin(self, turns: Sequence[Turn], step: int) -> None:
        """Take the rows of the next step."""
        self._turns, self._step, self._passes = turns, step, 0

    def try_out(self, turns: Sequence[Turn], step: int) -> None:
        """Compute a gradient and forget it."""
        self.begin(turns, step)
        self._passes = 1  # so that this one, too, leaves the buffers alone
        self.leave()
        self._body.clear()
        self._keys.at(None)

    def beside(self, offset: dict[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
        """The contract's ``gradient``: by name, at the weights or beside them by ``offset``."""
        with self._body.beside(offset):
            outcome = self.leave()
        return self._body.gradients(), outcome

    def leave(self) -> Outcome:
        """Leave the gradient in the weights and return the outcome: terms are this rank's mean over its turns."""
        self._passes += 1
        if self._passes > 1:
            with self._unmoved():
                outcomes = self._passed()
        else:
            outcomes = self._passed()
        self._body.collect()
        outcome = outcomes[0] if len(outcomes) == 1 else _joint(outcomes)
        if not self._body.in_loss:
            for name, penalty in self._body.penalties(self._cocktail).items():
                outcome = outcome.plus(name, penalty)
        return outcome

    def _passed(self) -> list[Outcome]:
        """Leave what a pass over all turns finds in the weights."""
        self._body.clear()
        self._means.begin(len(self._turns))
        if len(self._turns) > 1:
            self._learn_means()
        return [self._differentiated(place) for place in range(len(self._turns))]

    def _differentiated(self, place: int) -> Outcome:
        outcome = self._outcome(place)
        last = place == len(self._turns) - 1
        penalties = self._body.penalties(self._cocktail) if last and self._body.in_loss else {}
        if len(self._turns) == 1:
            for name, penalty in penalties.items():
                outcome = outcome.plus(name, penalty)
            self._backward(outcome.loss, True)
            return outcome
        loss = outcome.loss / len(self._turns)
        self._backward(torch.stack([loss, *penalties.values()]).sum(), last)
        scaled = {name: penalty.detach() * len(self._turns) for name, penalty in penalties.items()}  # a mean is taken
        return Outcome({**{name: term.detach() for name, term in outcome.terms.items()}, **scaled}, outcome.outputs)

    def _outcome(self, place: int) -> Outcome:
        turn = self._turns[place]
        self.idle = turn.idle
        self._keys.at(turn.batch.index)
        self._means.begin_turn()
        self._seed_generators(place, turn.batch.index.is_cuda)
        with self._forward():
            return self._objective(self._body.model, turn.batch)

    def _learn_means(self) -> None:
        while self._asks:
            with torch.no_grad(), self._unmoved():
                for place in range(len(self._turns)):
                    self._outcome(place)
            if not self._means.learn():
                self._asks = self._means.asked
                return

    def _seed_generators(self, place: int, on_gpu: bool) -> None:
        """Seed torch's generators by (seed, step, rank, turn), for draws inside the model that are not ours.

        An LSTM's dropout, ``F.dropout``: resumed runs then draw what they would have drawn, as does SAM's second pass.
        """
        number = counter_rng.integer_key(self._seed, self._step, self._rank, *([place] if place else []))
        torch.default_generator.manual_seed(number)
        if on_gpu:
            torch.cuda.manual_seed(number)

    @contextmanager
    def _unmoved(self) -> Iterator[None]:
        """Put the model's buffers back: only a step's first pass moves BatchNorm's statistics, not SAM's second."""
        # By module and name: a forward pass may put another tensor in the place of a buffer.
        held = [(module, name) for module in self._modules for name in module._buffers]
        saved = [
            (module, name, buffer, buffer.clone())
            for module, name in held
            if (buffer := module._buffers[name]) is not None
        ]
        yield
        for module, name, buffer, value in saved:
            module._buffers[name] = buffer.copy_(value)


def _joint(outcomes: Sequence[Outcome]) -> Outcome:
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.terms)
    terms = {
        name: torch.stack([outcome.terms[name].detach() for outcome in outcomes if name in outcome.terms]).sum()
        / len(outcomes)
        for name in names
    }
    return Outcome(terms, outcomes[-1].outputs)


def _itself(loss: Tensor) -> Tensor:
    return loss
