"""Terms over an epoch: the mean over examples, the same bits however the steps were cut."""

import torch

from reglab.training.term_sums import TermSums


def test_the_mean_is_over_examples_not_steps() -> None:
    sums = TermSums()
    sums.add({"task": torch.tensor([1.0, 2.0]).double()}, [10, 10])
    sums.add({"task": torch.tensor([5.0]).double()}, [5])
    assert float(sums.take()["task"]) == (10 + 20 + 25) / 25
    assert sums.take() == {}


def test_cuts_and_a_checkpoint_in_between_change_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    values, rows = torch.rand(100, generator=generator), [32] * 99 + [7]
    whole = TermSums()
    whole.add({"task": values}, rows)
    expected = whole.take()["task"]
    for cut in (1, 10, 63):
        parts = TermSums()
        parts.add({"task": values[:cut]}, rows[:cut])
        resumed = TermSums()
        resumed.load_state_dict(parts.state_dict())
        resumed.add({"task": values[cut:]}, rows[cut:])
        assert torch.equal(resumed.take()["task"], expected)


def test_a_term_that_comes_late_or_goes_counts_as_zero_elsewhere() -> None:
    sums = TermSums()
    sums.add({"a": torch.tensor([4.0])}, [1])
    sums.add({"b": torch.tensor([6.0])}, [1])
    assert {name: float(mean) for name, mean in sums.take().items()} == {"a": 2.0, "b": 3.0}


def test_a_member_has_the_bits_that_it_has_alone_and_in_a_smaller_pack() -> None:
    generator = torch.Generator().manual_seed(1)
    values, rows = torch.rand(101, 7, generator=generator), [32] * 100 + [7]
    together, kept = TermSums(), TermSums()
    for sums in (together, kept):
        sums.add({"task": values[:40]}, rows[:40])
    kept.keep([2, 5])
    kept.add({"task": values[40:, [2, 5]]}, rows[40:])
    together.add({"task": values[40:]}, rows[40:])
    whole = together.take()["task"]
    assert torch.equal(kept.take()["task"], whole[[2, 5]])
    for member in range(7):
        alone = TermSums()
        alone.add({"task": values[:, member]}, rows)
        assert torch.equal(alone.take()["task"], whole[member])


def test_a_term_of_members_that_comes_late_counts_as_zero_before() -> None:
    sums = TermSums()
    sums.add({"a": torch.ones(1, 3)}, [1])
    sums.add({"a": torch.ones(1, 3), "b": torch.full((1, 3), 6.0)}, [1])
    assert sums.take()["b"].tolist() == [3.0, 3.0, 3.0]
