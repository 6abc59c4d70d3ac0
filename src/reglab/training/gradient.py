"""Gradient accumulation: the gradient of a step's objective over microbatches and ranks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reglab.distributed.collectives import mean_over_ranks
from reglab.distributed.parameters import LocalParameters
from reglab.regularizers import Batch, Cocktail, Objective, Outcome
from reglab.rng import counter_rng


@dataclass(frozen=True)
class Microbatch:
    """The rows of one forward and backward pass on a rank.

    Args:
        is_padding: A dummy row of weight 0, on a rank without data.
    """

    batch: Batch
    is_padding: bool = False


class Means:
    """The contract's ``mean``: averages a loss over ranks and over each rank's microbatches.

    A microbatch is differentiated before the losses of later ones are known. Where a member asks
    for a mean, forward passes without a gradient therefore run first; each yields one of the means
    that depend on each other.
    """

    def __init__(self, ranks: int) -> None:
        self._microbatches = 1
        self._over_ranks = mean_over_ranks if ranks > 1 else _identity
        self._calls = 0  # in this microbatch
        self._known: list[Tensor] = []
        self._losses: list[Tensor] = []  # by microbatch, of the first call whose mean is unknown

    def __call__(self, loss: Tensor) -> Tensor:
        if self._microbatches == 1:
            return self._over_ranks(loss)
        call, self._calls = self._calls, self._calls + 1
        if call < len(self._known):
            return loss + (self._known[call] - loss).detach()
        if call == len(self._known):
            self._losses.append(loss.detach())
        return loss

    def begin_microbatch(self) -> None:
        self._calls = 0

    def learn(self) -> bool:
        """Compute the mean that the last pass over all microbatches collected; return whether there
        was one.
        """
        if not self._losses:
            return False
        self._known.append(self._over_ranks(torch.stack(self._losses).mean()))
        self._losses = []
        return True

    @property
    def used(self) -> bool:
        """Whether a member has asked for a mean in this gradient."""
        return bool(self._known)

    def begin(self, microbatches: int) -> None:
        """Begin a gradient over ``microbatches`` microbatches."""
        self._microbatches = microbatches
        self._known, self._losses = [], []


class Gradient:
    """Computes the gradient of the whole objective into ``.grad`` of ``parameters``.

    Args:
        forward: A context for the forward pass, such as autocast.
        backward: Differentiates a loss; gets whether it is the step's last, after which ranks
            all-reduce.
        rank: For draws of the model's own.
    """

    def __init__(
        self,
        parameters: LocalParameters,
        objective: Objective,
        cocktail: Cocktail,
        means: Means,
        forward: Callable[[], AbstractContextManager[object]],
        backward: Callable[[Tensor, bool], None],
        rank: int,
    ) -> None:
        self._parameters, self._objective, self._cocktail, self._means = parameters, objective, cocktail, means
        self._forward, self._backward, self._rank = forward, backward, rank
        self._keys = cocktail.keys
        self._seed = int(cocktail.keys.seed)
        self._modules = list(parameters.model.modules())
        self._microbatches: Sequence[Microbatch] = ()
        self._step = self._passes = 0
        self._may_use_means = True  # whether a member asks for means, until it is known
        self.is_padding = False

    def begin(self, microbatches: Sequence[Microbatch], step: int) -> None:
        """Set the microbatches of the next step."""
        self._microbatches, self._step, self._passes = microbatches, step, 0

    def warm_up(self, microbatches: Sequence[Microbatch], step: int) -> None:
        """Compute a gradient and discard it."""
        self.begin(microbatches, step)
        self._passes = 1  # so that this one, too, leaves the buffers alone
        self.compute()
        self._parameters.clear()
        self._keys.at(None)

    def compute_at(self, offset: dict[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Outcome]:
        """The contract's ``gradient``: by name, at the weights perturbed by ``offset``."""
        with self._parameters.perturbed(offset):
            outcome = self.compute()
        return self._parameters.gradients(), outcome

    def compute(self) -> Outcome:
        """Compute the gradient into ``.grad``; return the outcome, its terms averaged over this
        rank's microbatches.
        """
        self._passes += 1
        if self._passes > 1:
            with buffers_preserved(self._modules):
                outcomes = self._pass_over_microbatches()
        else:
            outcomes = self._pass_over_microbatches()
        self._parameters.collect()
        outcome = outcomes[0] if len(outcomes) == 1 else _merged(outcomes)
        if not self._parameters.in_loss:
            for name, penalty in self._parameters.penalties(self._cocktail).items():
                outcome = outcome.plus(name, penalty)
        return outcome

    def _pass_over_microbatches(self) -> list[Outcome]:
        """Accumulate the gradient over all microbatches."""
        self._parameters.clear()
        self._means.begin(len(self._microbatches))
        if len(self._microbatches) > 1:
            self._learn_means()
        return [self._backward_of(index) for index in range(len(self._microbatches))]

    def _backward_of(self, index: int) -> Outcome:
        outcome = self._forward_of(index)
        last = index == len(self._microbatches) - 1
        penalties = self._parameters.penalties(self._cocktail) if last and self._parameters.in_loss else {}
        if len(self._microbatches) == 1:
            for name, penalty in penalties.items():
                outcome = outcome.plus(name, penalty)
            self._backward(outcome.loss, True)
            return outcome
        loss = outcome.loss / len(self._microbatches)
        self._backward(torch.stack([loss, *penalties.values()]).sum(), last)
        count = len(self._microbatches)  # terms are averaged over the microbatches; a penalty is in one of them
        scaled = {name: penalty.detach() * count for name, penalty in penalties.items()}
        return Outcome({**{name: term.detach() for name, term in outcome.terms.items()}, **scaled}, outcome.outputs)

    def _forward_of(self, index: int) -> Outcome:
        microbatch = self._microbatches[index]
        self.is_padding = microbatch.is_padding
        self._keys.at(microbatch.batch.index)
        self._means.begin_microbatch()
        self._seed_generators(index, microbatch.batch.index.is_cuda)
        with self._forward():
            return self._objective(self._parameters.model, microbatch.batch)

    def _learn_means(self) -> None:
        while self._may_use_means:
            with torch.no_grad(), buffers_preserved(self._modules):
                for index in range(len(self._microbatches)):
                    self._forward_of(index)
            if not self._means.learn():
                self._may_use_means = self._means.used
                return

    def _seed_generators(self, index: int, on_gpu: bool) -> None:
        """Seed torch's generators by (seed, step, rank, microbatch), for draws inside the model
        that are not ours.

        An LSTM's dropout, ``F.dropout``: resumed runs then draw what they would have drawn, as does
        SAM's second pass.
        """
        number = counter_rng.integer_key(self._seed, self._step, self._rank, *([index] if index else []))
        torch.default_generator.manual_seed(number)
        if on_gpu:
            torch.cuda.manual_seed(number)


@contextmanager
def buffers_preserved(modules: Iterable[nn.Module]) -> Iterator[None]:
    """A context after which the modules' buffers are as they were: only a step's first pass moves
    BatchNorm's statistics, not SAM's second.

    Args:
        modules: All of a model.
    """
    # By module and name: a forward pass may replace a buffer by another tensor.
    held = [(module, name) for module in modules for name in module._buffers]
    saved = [
        (module, name, buffer, buffer.clone()) for module, name in held if (buffer := module._buffers[name]) is not None
    ]
    yield
    for module, name, buffer, value in saved:
        module._buffers[name] = buffer.copy_(value)


def _merged(outcomes: Sequence[Outcome]) -> Outcome:
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.terms)
    terms = {
        name: torch.stack([outcome.terms[name].detach() for outcome in outcomes if name in outcome.terms]).sum()
        / len(outcomes)
        for name in names
    }
    return Outcome(terms, outcomes[-1].outputs)


def _identity(loss: Tensor) -> Tensor:
    return loss
