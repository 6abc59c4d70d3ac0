"""When a loss that is no longer finite is reported, and of which step."""

import math
import re

import pytest
import torch
from torch import Tensor

from reglab.core.errors import Diverged
from reglab.training.finite import Finite

RATES = ((0.5,), (0.25,), (0.125,))
FIRST, PER_EPOCH = 10, 4


def chunk(wrong: float | None = None, term: int = 1, place: int = 2) -> Tensor:
    """Return two terms of three steps of one member, one of them wrong."""
    terms = torch.ones(2, 3, 1)
    if wrong is not None:
        terms[term, place] = wrong
    return terms


def only(failed: dict[int, Diverged]) -> Diverged:
    (error,) = failed.values()
    return error


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("term", [0, 1])
@pytest.mark.parametrize("place, step, epoch", [(0, 10, 3), (1, 11, 3), (2, 12, 4)])
def test_it_names_the_first_step_that_is_wrong_with_its_epoch_and_rate(
    wrong: float, term: int, place: int, step: int, epoch: int
) -> None:
    terms = chunk(wrong, term, place)
    terms[:, place + 1 :] = math.nan  # as all that follows would be
    error = only(Finite(PER_EPOCH, late=False).check(terms, FIRST, RATES))
    assert re.search(f"step {step} .epoch {epoch}.*learning rate of {RATES[place][0]:g}\\.", str(error))
    assert (error.step, error.epoch) == (step, epoch)


def test_it_names_each_member_that_is_wrong_at_its_own_step_and_rate() -> None:
    terms = torch.ones(2, 3, 4)
    terms[0, 1, 3], terms[1, 2, 1] = math.nan, math.inf
    rates = torch.arange(12.0).reshape(3, 4)
    failed = Finite(PER_EPOCH, late=False).check(terms, FIRST, rates)
    assert {member: error.step for member, error in failed.items()} == {1: 12, 3: 11}
    assert "learning rate of 9." in str(failed[1])
    assert "learning rate of 7." in str(failed[3])


def test_late_means_with_the_next_chunk() -> None:
    finite = Finite(PER_EPOCH, late=True)
    assert not finite.check(chunk(math.nan, place=1), FIRST, RATES)
    error = only(finite.check(chunk(), FIRST + 3, ((3.0,), (3.0,), (3.0,))))
    assert re.search(r"step 11 .epoch 3.*rate of 0.25", str(error))


def test_late_means_at_the_latest_when_it_is_settled() -> None:
    finite = Finite(PER_EPOCH, late=True)
    assert not finite.check(chunk(), FIRST, RATES)
    assert not finite.check(chunk(math.nan), FIRST + 3, RATES)
    assert only(finite.flush()).step == 15
    assert not finite.flush()  # it was reported


@pytest.mark.parametrize("late", [True, False])
def test_numbers_whose_sum_alone_is_infinite_have_not_diverged(late: bool) -> None:
    huge = torch.full((1, 3, 1), torch.finfo(torch.float32).max)
    assert math.isinf(float(huge.sum()))
    finite = Finite(PER_EPOCH, late)
    assert not finite.check(huge, FIRST, RATES)
    assert not finite.flush()


def test_terms_of_a_step_that_cancel_to_nan_have_diverged() -> None:
    terms = chunk()
    terms[:, 1, 0] = torch.tensor([math.inf, -math.inf])
    assert only(Finite(PER_EPOCH, late=False).check(terms, FIRST, RATES)).step == 11
