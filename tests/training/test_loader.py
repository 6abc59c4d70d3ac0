from itertools import chain

import pytest
import torch

from reglab.training.loader import Steps, epoch_order, share, step_rows
from reglab.training.recipe import Recipe


def walk(steps, counter, epochs):
    """Go through whole epochs as a trainer does, and return the rows of each optimizer step."""
    observed = []
    for _ in range(epochs):
        for chunk in steps:
            for rows in chunk:
                observed.append(rows.tolist())
                counter[0] += 1
    return observed


def loader(rows=23, batch_size=5, seed=3, steps_per_batch=2, start=0, **length):
    counter = [start]
    recipe = Recipe({}, steps_per_batch=steps_per_batch, **length)
    return Steps(rows, batch_size, seed, recipe, lambda: counter[0]), counter


@pytest.mark.parametrize("rows, batch_size", [(23, 5), (20, 5), (21, 5), (4, 10), (1, 1), (2, 1), (6, 1)])
def test_an_epoch_holds_every_row_once(rows, batch_size):
    steps, counter = loader(rows, batch_size)
    observed = walk(steps, counter, 1)
    assert sorted(chain.from_iterable(observed)) == list(range(rows))
    assert len(observed) == steps.per_epoch


def test_a_last_row_alone_joins_the_step_before_it():
    assert [len(part) for part in step_rows(torch.arange(21), 5)] == [5, 5, 5, 6]
    assert [len(part) for part in step_rows(torch.arange(22), 5)] == [5, 5, 5, 5, 2]
    assert [len(part) for part in step_rows(torch.arange(1), 5)] == [1]


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 23, 24])
def test_the_shares_of_a_step_hold_every_row_once_and_in_order(rows, parts):
    shares = [share(torch.arange(rows), part, parts) for part in range(parts)]
    held = [one.rows for one in shares if one.factor > 0]
    assert torch.cat(held).tolist() == list(range(rows))
    assert max(map(len, held)) - min(map(len, held)) <= 2
    assert all(len(one.rows) == 1 for one in shares if one.factor == 0)


@pytest.mark.parametrize("rows, parts", [(10, 1), (10, 2), (7, 2), (10, 4), (3, 4), (1, 2)])
def test_the_mean_over_shares_is_the_mean_over_the_rows(rows, parts):
    losses = torch.arange(rows, dtype=torch.float64).square() + 1
    shares = [share(torch.arange(rows), part, parts) for part in range(parts)]
    means = [one.factor * losses[one.rows].mean() for one in shares]
    torch.testing.assert_close(torch.stack(means).mean(), losses.mean(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("rows, parts", [(10, 2), (10, 4), (11, 4), (64, 3)])
def test_shares_begin_at_an_even_place_so_that_no_pair_is_parted(rows, parts):
    for part in range(parts):
        assert int(share(torch.arange(rows), part, parts).rows[0]) % 2 == 0


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
    observed = walk(*loader(), epochs=2)
    assert observed[:5] != observed[5:]


def test_nothing_is_kept_for_a_checkpoint():
    steps, _ = loader()
    assert steps.state_dict() == {}
    steps.load_state_dict({})
