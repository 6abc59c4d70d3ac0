import pytest
import torch

from reglab.core.errors import UserError
from reglab.measures import probe_rows, probe_size


@pytest.mark.parametrize(
    "train_rows, val_rows, wanted, expected",
    [
        (50_000, 10_000, None, 10_000),
        (50_000, 300, None, 1000),
        (800, 300, None, 800),
        (800, 9000, None, 800),
        (800, 300, 64, 64),
        (800, 300, 5000, 800),
    ],
)
def test_size_is_that_of_validation_at_least_1000_and_never_more_than_there_are(train_rows, val_rows, wanted, expected):
    assert probe_size(train_rows, val_rows, wanted) == expected


def test_a_probe_of_less_than_two_rows_is_refused():
    with pytest.raises(UserError, match=r"measure\.probe_rows=1"):
        probe_size(10, 10, 1)


def test_rows_are_sorted_different_and_those_of_the_seed():
    torch.manual_seed(1)
    first = probe_rows(1000, 50, seed=3)
    torch.manual_seed(2)
    assert torch.equal(probe_rows(1000, 50, seed=3), first)
    assert torch.equal(first, first.unique(sorted=True))
    assert first[0] >= 0
    assert first[-1] < 1000
    assert not torch.equal(first, probe_rows(1000, 50, seed=4))


def test_all_rows_where_as_many_are_wanted():
    assert torch.equal(probe_rows(5, 9, seed=0), torch.arange(5))


def test_a_smaller_probe_is_part_of_a_larger_one():
    assert set(probe_rows(100, 10, seed=6).tolist()) <= set(probe_rows(100, 40, seed=6).tolist())


def test_every_row_is_equally_likely():
    chosen = torch.stack([torch.bincount(probe_rows(20, 5, seed=seed), minlength=20) for seed in range(2000)])
    share = chosen.double().mean(0)  # standard error 0.0097
    assert share.sub(0.25).abs().max().item() < 0.04
