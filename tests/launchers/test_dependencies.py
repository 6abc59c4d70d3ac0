"""Dependencies between jobs of a path, and packs split by depth on it."""

from pathlib import Path

from reglab.config.job_request import JobRequest, WarmStart
from reglab.launchers.compose import JobGroup
from reglab.launchers.dependencies import dependencies, levels, merge_levels, with_dependencies
from reglab.launchers.packing import Plan


def request(number, after=None):
    return JobRequest(number, start=None if after is None else WarmStart(after, Path(), "trail"))


def test_jobs_wait_for_those_that_are_launched():
    requests = [request(4, 3), request(5, 4), request(6), request(7, 5)]  # 3 is done
    assert dependencies(requests) == {5: 4, 7: 5}
    pairs = [JobGroup(tuple(requests[0::2])), JobGroup(tuple(requests[1::2]))]
    groups = with_dependencies(pairs, {5: 4, 7: 6})
    assert [group.after for group in groups] == [(), (4, 6)]
    assert groups[1].subset([7]).after == (4, 6)


def test_packs_are_cut_by_place_on_the_path():
    planned = Plan(((0, 1, 2, 3, 4, 5),), (6, 7), {"why": (6, 7)})
    before = {2: 0, 3: 1, 4: 2, 7: 6}
    parts = levels(planned, before)
    assert [(part.packs, part.solo) for part in parts] == [(((0, 1, 5),), (6,)), (((2, 3),), (7,)), ((), (4,))]
    whole = merge_levels(parts, planned)
    assert (whole.packs, whole.solo) == (((0, 1, 5), (2, 3)), (4, 6, 7))
    assert list(whole.reasons.values()) == [(6, 7), (4,)]
    assert merge_levels(levels(planned, {}), planned) == planned
