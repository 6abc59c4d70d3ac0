"""The rows of a pack's batches, against the solo loader of each member."""

import pytest
import torch

from reglab.training.fused.rows import PackSteps
from reglab.training.loader import Steps
from reglab.training.recipe import Recipe


@pytest.mark.parametrize("members", [[(0, 0), (5, 0)], [(0, 0), (0, 1)], [(3, 1), (3, 1)]], ids=str)
@pytest.mark.parametrize("rows, batch", [(10, 4), (9, 4), (3, 8)])
@pytest.mark.parametrize("done", [0, 1, 5])
@pytest.mark.parametrize("length", [{}, {"limit": 2}, {"limit": 2, "steps": 7}], ids=str)
def test_each_member_takes_the_rows_that_it_takes_alone(
    members: list[tuple[int, int]], rows: int, batch: int, done: int, length: dict[str, int]
) -> None:
    recipe = Recipe({}, batch_size=batch, steps_per_batch=2, **length)
    steps = PackSteps(rows, recipe, lambda: members, lambda: done)
    solo = [Steps(rows, batch, seed, recipe, lambda: done) for seed, _ in members]
    assert len(steps) == len(solo[0])
    assert steps.per_epoch == solo[0].per_epoch
    chunks = list(steps)
    for number, (loader, (_, part)) in enumerate(zip(solo, members, strict=True)):
        for ours, theirs in zip(chunks, loader, strict=True):
            for mine, right in zip(ours, theirs, strict=True):
                assert torch.equal(mine if mine.dim() == 1 else mine[number], right + part * rows)


def test_one_set_of_rows_where_all_members_take_the_same() -> None:
    steps = PackSteps(10, Recipe({}, batch_size=4, steps_per_batch=2), lambda: [(3, 1)] * 4, lambda: 0)
    assert [step.dim() for chunk in steps for step in chunk] == [1, 1, 1]
