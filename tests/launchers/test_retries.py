"""The retry policy of groups of jobs."""

from itertools import count

import pytest

from reglab.config.job_request import JobRequest
from reglab.launchers.compose import JobGroup
from reglab.launchers.retries import Attempts


def group(*jobs):
    return JobGroup(tuple(map(JobRequest, jobs)))


@pytest.mark.parametrize("preempted", [True, False])
def test_a_job_goes_on_as_often_as_is_said_however_far_it_gets(preempted):
    steps = count(1)
    for reached in (lambda _: 0, lambda _: next(steps)):
        attempts = Attempts(reached, max_retries=3)
        assert [attempts.allow(group(7), preempted) for _ in range(5)] == [True, True, True, False, False]


def test_the_attempts_of_its_pack_count_for_a_job():
    attempts = Attempts(lambda _: 0, max_retries=2)
    assert attempts.allow(group(1, 2), preempted=True)
    assert attempts.allow(group(2), preempted=False)
    assert not attempts.allow(group(2), preempted=False)
    assert attempts.allow(group(1), preempted=False)


def test_a_pack_that_is_killed_twice_at_one_place_is_not_tried_a_third_time():
    attempts = Attempts(lambda _: 0, max_retries=9)
    assert [attempts.allow(group(1, 2), preempted=False) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("preempted, idle", [(False, 1), (True, 3)])
def test_without_a_number_it_goes_on_as_long_as_it_gets_further(preempted, idle):
    steps = iter([*range(1, 9), *[8] * 9])
    attempts = Attempts(lambda _: next(steps))
    allowed = [attempts.allow(group(1), preempted) for _ in range(8 + idle + 1)]
    assert allowed == [True] * (8 + idle) + [False]
