from itertools import chain

import pytest
import torch

from reglab.training.loader import Steps, epoch_order, step_rows


def walk(steps, counter, epochs):
    """Go through whole epochs as a trainer does, and return the rows of each optimizer step."""
    seen = []
    for _ in range(epochs):
        for chunk in steps:
            for rows in chunk:
                seen.append(rows.tolist())
                counter[0] += 1
    return seen


def loader(rows=23, batch_size=5, seed=3, steps_per_batch=2, start=0, ranks=1):
    counter = [start]
    return Steps(rows, batch_size, seed, steps_per_batch, lambda: counter[0], ranks), counter


@pytest.mark.parametrize("rows, batch_size", [(23, 5), (20, 5), (21, 5), (4, 10), (1, 1), (2, 1), (6, 1)])
def test_an_epoch_holds_every_row_once(rows, batch_size):
    steps, counter = loader(rows, batch_size)
    seen = walk(steps, counter, 1)
    assert sorted(chain.from_iterable(seen)) == list(range(rows))
    assert len(seen) == steps.per_epoch


def test_a_last_row_alone_joins_the_step_before_it():
    assert [len(part) for part in step_rows(torch.arange(21), 5)] == [5, 5, 5, 6]
    assert [len(part) for part in step_rows(torch.arange(22), 5)] == [5, 5, 5, 5, 2]
    assert [len(part) for part in step_rows(torch.arange(1), 5)] == [1]


@pytest.mark.parametrize("rows", [20, 21, 23, 24, 26])
def test_every_step_can_be_cut_into_equal_parts_of_two_rows_or_more(rows):
    ranks = 2
    parts = step_rows(torch.arange(rows), 4 * ranks, ranks)
    assert sum(len(part) for part in parts) == rows - rows % ranks
    for part in parts:
        assert len({len(share) for share in part.chunk(ranks)}) == 1
        assert len(part) >= 2 * ranks


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    torch.manual_seed(0)
    first = epoch_order(50, seed=1, epoch=2)
    torch.manual_seed(1)
    assert torch.equal(epoch_order(50, seed=1, epoch=2), first)
    others = [epoch_order(50, 1, 3), epoch_order(50, 2, 2), epoch_order(50, 2, 1)]
    assert all(not torch.equal(other, first) for other in others)
    assert first.sort().values.tolist() == list(range(50))


@pytest.mark.parametrize("steps_per_batch", [1, 2, 3, 100])
def test_chunks_change_nothing_but_how_steps_are_handed_over(steps_per_batch):
    steps, _ = loader(steps_per_batch=steps_per_batch)
    chunks = list(steps)
    assert len(chunks) == len(steps)
    assert all(1 <= len(chunk) <= steps_per_batch for chunk in chunks)
    expected, one = loader(steps_per_batch=1)
    assert [rows.tolist() for chunk in chunks for rows in chunk] == walk(expected, one, 1)


@pytest.mark.parametrize("start", range(16))
def test_going_on_from_any_step_gives_the_rows_that_come_next(start):
    uninterrupted = walk(*loader(), epochs=4)
    assert len(uninterrupted) == 20
    resumed, counter = loader(start=start)
    assert walk(resumed, counter, epochs=4)[: 20 - start] == uninterrupted[start:]


def test_epochs_differ():
    seen = walk(*loader(), epochs=2)
    assert seen[:5] != seen[5:]


def test_ranks_share_the_joint_batch_of_one_process():
    alone = walk(*loader(24, 8), epochs=2)
    joint = walk(*loader(24, 4, ranks=2), epochs=2)
    assert joint == alone


def test_nothing_is_kept_for_a_checkpoint():
    steps, _ = loader()
    assert steps.state_dict() == {}
    steps.load_state_dict({})
