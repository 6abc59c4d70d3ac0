"""Processes that meet on a store that is not there yet."""

from scripts.chaos.fresh_store import PROCESSES, one_round


def test_eight_processes_make_the_store_once_and_each_keeps_its_run(tmp_path):
    assert [one_round(tmp_path / name) for name in ("first", "second")] == [PROCESSES, PROCESSES]
