"""When a loss that is no longer finite is told, and of which step."""

import math

import pytest
import torch
from torch import Tensor

from reglab.core.errors import Diverged
from reglab.training.finite import Finite

RATES = (0.5, 0.25, 0.125)
FIRST, PER_EPOCH = 10, 4


def chunk(wrong: float | None = None, term: int = 1, place: int = 2) -> Tensor:
    """Return two terms of three steps, one of them wrong."""
    terms = torch.ones(2, 3)
    if wrong is not None:
        terms[term, place] = wrong
    return terms


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("term", [0, 1])
@pytest.mark.parametrize("place, step, epoch", [(0, 10, 3), (1, 11, 3), (2, 12, 4)])
def test_it_names_the_first_step_that_is_wrong_with_its_epoch_and_rate(
    wrong: float, term: int, place: int, step: int, epoch: int
) -> None:
    terms = chunk(wrong, term, place)
    terms[:, place + 1 :] = math.nan  # as all that follows would be
    with pytest.raises(Diverged, match=f"step {step} .epoch {epoch}.*learning rate of {RATES[place]:g}\\.") as message:
        Finite(PER_EPOCH, late=False).check(terms, FIRST, RATES)
    assert (message.value.step, message.value.epoch) == (step, epoch)


def test_late_means_with_the_next_chunk() -> None:
    finite = Finite(PER_EPOCH, late=True)
    finite.check(chunk(math.nan, place=1), FIRST, RATES)
    with pytest.raises(Diverged, match=r"step 11 .epoch 3.*rate of 0.25"):
        finite.check(chunk(), FIRST + 3, (3.0, 3.0, 3.0))


def test_late_means_at_the_latest_when_it_is_settled() -> None:
    finite = Finite(PER_EPOCH, late=True)
    finite.check(chunk(), FIRST, RATES)
    finite.check(chunk(math.nan), FIRST + 3, RATES)
    with pytest.raises(Diverged, match="step 15"):
        finite.flush()
    finite.flush()  # it was told


@pytest.mark.parametrize("late", [True, False])
def test_numbers_whose_sum_alone_is_infinite_have_not_diverged(late: bool) -> None:
    huge = torch.full((1, 3), torch.finfo(torch.float32).max)
    assert math.isinf(float(huge.sum()))
    finite = Finite(PER_EPOCH, late)
    finite.check(huge, FIRST, RATES)
    finite.flush()


def test_terms_of_a_step_that_cancel_to_nan_have_diverged() -> None:
    terms = chunk()
    terms[:, 1] = torch.tensor([math.inf, -math.inf])
    with pytest.raises(Diverged, match="step 11"):
        Finite(PER_EPOCH, late=False).check(terms, FIRST, RATES)
