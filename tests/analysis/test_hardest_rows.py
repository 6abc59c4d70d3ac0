"""Hard rows, against a loop and against rows that are hard by luck."""

import numpy as np
import pytest

from reglab.analysis.hardest_rows import hardest_rows, share_of_hardest
from reglab.analysis.per_example_file import Examples


def run(losses: np.ndarray, index: np.ndarray | None = None) -> Examples:
    index = np.arange(len(losses)) if index is None else index
    return Examples(index, losses, (losses < 1).astype(float), index, losses, losses)


def test_rows_are_ordered_by_their_mean_over_the_runs_that_have_them() -> None:
    random = np.random.default_rng(0)
    runs = [run(random.exponential(size=30), random.permutation(50)[:30]) for _ in range(4)]
    seen: dict[int, list[float]] = {}
    for each in runs:
        for index, loss in zip(each.val_index, each.val_loss, strict=True):
            seen.setdefault(int(index), []).append(float(loss))
    wanted = sorted(seen, key=lambda index: -np.mean(seen[index]))[:7]
    found = hardest_rows(runs, count=7)
    assert [row.index for row in found] == wanted
    for row in found:
        assert row.loss == pytest.approx(np.mean(seen[row.index]))
        assert row.runs == len(seen[row.index])
        assert row.missed == sum(loss >= 1 for loss in seen[row.index])


def test_the_share_of_rows_that_are_hard_by_luck_is_a_tenth() -> None:
    random = np.random.default_rng(1)
    shares = [share_of_hardest([run(random.exponential(size=200)) for _ in range(4)]) for _ in range(200)]
    assert np.mean(shares) == pytest.approx(0.1, abs=0.01)


def test_the_share_of_rows_that_are_always_hard_is_theirs() -> None:
    losses = np.ones(100)
    losses[:10] = 90.0
    assert share_of_hardest([run(losses), run(losses)]) == pytest.approx(900 / 990)


def test_no_share_is_claimed_of_one_run_or_of_different_rows() -> None:
    losses = np.ones(30)
    assert share_of_hardest([run(losses)]) is None
    assert share_of_hardest([run(losses), run(losses, np.arange(1, 31))]) is None
    assert share_of_hardest([run(losses[:5]), run(losses[:5])]) is None
    assert share_of_hardest([run(0 * losses), run(0 * losses)]) == 0
