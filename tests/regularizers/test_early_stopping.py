import math

import pytest
import torch

from reglab.core.errors import UserError
from reglab.regularizers import Cocktail, EarlyStopping


def stops_after(losses, **options):
    """Return the number of the measurement (from 1) that stops training, or None."""
    member = EarlyStopping(**options)
    for number, loss in enumerate(losses, 1):
        if bool(member.on_validation({"val/loss": torch.tensor(loss)})):
            return number
    return None


@pytest.mark.parametrize(
    "losses, options, expected",
    [
        ([3, 2, 1, 2, 2, 0], {"patience": 2}, 5),
        ([3, 2, 1, 2, 0.5, 2, 2], {"patience": 2}, 7),  # an improvement starts the count again
        ([3, 2, 1, 0], {"patience": 1}, None),
        ([3, 3], {"patience": 1}, 2),  # equal is no improvement
        ([1.0, 0.95, 0.91, 0.8], {"patience": 2, "min_delta": 0.1}, 3),  # creeping is none either
        ([1.0, 0.95, 0.8, 0.79], {"patience": 2, "min_delta": 0.1}, None),
        ([1, math.nan, math.nan], {"patience": 2}, 3),
        ([1, 2, 0.5, 3, 4, 5], {"patience": 3}, 6),
        ([1.0] * 1000, {"patience": math.inf}, None),
        ([2, 1, 2, 2, 2, 2, 0], {"patience": 5}, None),
    ],
)
def test_stops_where_a_reader_would(losses, options, expected):
    assert stops_after([float(loss) for loss in losses], **options) == expected


def test_its_memory_is_in_the_checkpoint():
    whole, first, second = EarlyStopping(3), EarlyStopping(3), EarlyStopping(3)
    losses = [torch.tensor(value) for value in (1.0, 2.0, 2.0, 2.0)]
    answers = [bool(whole.on_validation({"val/loss": loss})) for loss in losses]
    for loss in losses[:2]:
        first.on_validation({"val/loss": loss})
    second.load_state_dict(first.state_dict())
    assert [bool(second.on_validation({"val/loss": loss})) for loss in losses[2:]] == answers[2:] == [False, True]


def test_a_cocktail_stops_where_its_member_does_and_says_that_it_may():
    cocktail = Cocktail({"stop": EarlyStopping(1)}, 0, "classification")
    assert cocktail.stops
    assert [bool(cocktail.stop({"val/loss": torch.tensor(loss)})) for loss in (1.0, 0.5, 0.7)] == [False, False, True]
    assert not Cocktail({}, 0, "classification").stops
    assert not bool(Cocktail({}, 0, "classification").stop({"val/loss": torch.tensor(1.0)}))


def test_two_are_refused():
    with pytest.raises(UserError, match="one and two both own the stopping"):
        Cocktail({"one": EarlyStopping(), "two": EarlyStopping()}, 0, "regression")


@pytest.mark.parametrize("options", [{"patience": 0}, {"patience": math.nan}, {"min_delta": -1}, {"min_delta": 1e999}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        EarlyStopping(**options)
