"""Some cells of the grid that scripts/study/coverage.py prints whole: seeded, so that they cannot
differ.
"""

import pytest
from scripts.study.coverage import coverage, populations, regression, table

REPETITIONS = 1000  # a share of 0.95 has a standard error of 0.007


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("name", ["margins, spread 10", "mixture", "labels together"])
@pytest.mark.parametrize("accuracy, rows", [(0.5, 30), (0.9, 50), (0.98, 300)])
def test_intervals_of_classifications_cover(accuracy, rows, name, probe):
    cell = coverage(name, *populations(accuracy)[name], rows, REPETITIONS, probe)
    assert 0.92 < cell.loss < 0.985
    assert 0.92 < cell.score < 0.985
    assert cell.empty > 0


@pytest.mark.parametrize("noise", ["normal", "t5", "skewed targets"])
def test_intervals_of_regressions_cover(noise):
    cell = coverage(noise, regression(0.5, noise), regression(0.9, noise), 50, REPETITIONS, True)
    assert 0.905 < cell.loss < 0.98
    assert 0.905 < cell.score < 0.98


def test_where_errors_are_few_intervals_are_wide_or_none_and_the_table_says_so():
    cell = coverage("mixture", *populations(0.99)["mixture"], 30, REPETITIONS, False)
    assert cell.without == pytest.approx(0.99**30, abs=0.05)
    assert cell.loss > 0.95
    assert cell.score > 0.95
    assert cell.empty > 0.05
    few = table([cell])
    assert "fewer than 5 errors" in few
    assert f"| mixture | 1 | {cell.loss:.3f}, {cell.loss:.3f} |" in few
