"""Dependencies between jobs of a path, and packs split by depth on it."""

from reglab.launchers.compose import JobGroup
from reglab.launchers.dependencies import dependencies, levels, merge_levels, with_dependencies
from reglab.launchers.packing import Plan


def overrides(job, after=None):
    return [f"sweep.job={job}"] + ([] if after is None else [f"sweep.after={after}"])


def test_jobs_wait_by_their_numbers_in_the_sweep_for_those_that_are_launched():
    jobs = {0: overrides(4, 3), 1: overrides(5, 4), 2: ["seed=1"], 3: overrides(7, 5)}  # 3 is done
    assert dependencies(jobs) == {1: 0, 3: 1}
    groups = with_dependencies([JobGroup((0, 2), ((), ())), JobGroup((1, 3), ((), ()))], {1: 0, 3: 2})
    assert [group.after for group in groups] == [(), (0, 2)]
    assert groups[1].subset([3]).after == (0, 2)


def test_packs_are_cut_by_place_on_the_path():
    planned = Plan(((0, 1, 2, 3, 4, 5),), (6, 7), {"why": (6, 7)})
    before = {2: 0, 3: 1, 4: 2, 7: 6}
    parts = levels(planned, before)
    assert [(part.packs, part.solo) for part in parts] == [(((0, 1, 5),), (6,)), (((2, 3),), (7,)), ((), (4,))]
    whole = merge_levels(parts, planned)
    assert (whole.packs, whole.solo) == (((0, 1, 5), (2, 3)), (4, 6, 7))
    assert list(whole.reasons.values()) == [(6, 7), (4,)]
    assert merge_levels(levels(planned, {}), planned) == planned
