"""One epoch of a pack is written as each run's own ``log`` would have written it."""

import json
import logging
import math
import random

import numpy as np
import pytest

from reglab.tracking import RunSpec, TrackingSettings, finish_runs, log_pack, open_runs, sync_runs

KEYS = ["val/loss", 'odd "%s" key\n', "weights/100%/é"]


@pytest.fixture
def pack(tmp_path):
    settings = TrackingSettings.from_config({"name": "none"}, tmp_path)

    def open_some(count, name="pack"):
        return open_runs(settings, [RunSpec(str(n), tmp_path / name / str(n), {}, {}, {}) for n in range(count)])

    return open_some


def rows(tracker):
    return [(row.key, row.step, row.value) for row in tracker.journal.rows()]


def draw(count):
    odd = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-310, 1.7e308, 1 / 3, 5]
    source = random.Random(0)
    return [[source.choice(odd) if source.random() < 0.3 else source.gauss(0, 1) for _ in KEYS] for _ in range(count)]


def test_the_rows_are_those_of_log(pack):
    together, alone = pack(4, "together"), pack(4, "alone")
    for step in [0, 1, 2, 5, 3, 5, 6, 6, 7]:  # also late and repeated ones
        values = draw(4)
        log_pack(together, KEYS, values, step)
        for tracker, row in zip(alone, values, strict=True):
            tracker.log(dict(zip(KEYS, row, strict=True)), step)
    for one, other in zip(together, alone, strict=True):
        assert repr(rows(one)) == repr(rows(other))  # by their text, since NaN differs from itself
        assert (one.journal.dropped, one.journal.conflicts) == (other.journal.dropped, other.journal.conflicts)


def test_the_first_row_stays_whichever_way_it_came(pack, caplog):
    (tracker,) = pack(1)
    log_pack([tracker], ["a", "b"], [[1.0, 2.0]], 5)
    log_pack([tracker], ["b", "c"], [[3.0, 4.0]], 6)
    log_pack([tracker], ["a", "b"], [[5.0, 6.0]], 7)
    with caplog.at_level(logging.WARNING):
        tracker.log({"a": 9.0, "c": 9.0}, 5)
        tracker.log({"b": 6.0}, 7)
        log_pack([tracker], ["b", "d"], [[9.0, 9.0]], 6)
    assert (tracker.journal.dropped, tracker.journal.conflicts) == (3, 2)
    assert "a at step 5 was recorded as 1.0 and is now 9.0" in caplog.text
    log_pack([tracker], ["a", "b"], [[7.0, 8.0]], 8)
    log_pack([tracker], ["a", "b"], [[0.0, 8.0]], 8)
    assert tracker.journal.conflicts == 3
    expected = {("a", 5): 1.0, ("b", 5): 2.0, ("b", 6): 3.0, ("c", 6): 4.0, ("a", 7): 5.0, ("b", 7): 6.0}
    expected |= {("c", 5): 9.0, ("d", 6): 9.0, ("a", 8): 7.0, ("b", 8): 8.0}
    assert {(key, step): value for key, step, value in rows(tracker)} == expected


def test_each_line_is_json_and_keeps_every_digit(pack):
    (tracker,) = pack(1)
    log_pack([tracker], KEYS, [[1 / 3, 1e-17, -2.0]], 1)
    line = tracker.journal.path.read_bytes().splitlines()[-1]
    assert json.loads(line)["metrics"] == dict(zip(KEYS, [1 / 3, 1e-17, -2.0], strict=True))


def test_numbers_of_other_kinds_are_taken(pack):
    (tracker,) = pack(1)
    log_pack([tracker], ["a", "b", "c"], [[np.float64(0.1), np.float32(0.5), 3]], 1)
    assert rows(tracker) == [("a", 1, 0.1), ("b", 1, 0.5), ("c", 1, 3.0)]


def test_lengths_that_do_not_fit_and_keys_that_stand_twice_are_refused(pack):
    trackers = pack(2)
    with pytest.raises(ValueError, match=r"2 rows of 1 numbers, got 1 rows of \[1\]"):
        log_pack(trackers, ["a"], [[1.0]], 1)
    with pytest.raises(ValueError, match=r"2 rows of 1 numbers, got 2 rows of \[1, 2\]"):
        log_pack(trackers, ["a"], [[1.0], [1.0, 2.0]], 1)
    with pytest.raises(ValueError, match="got a twice"):
        log_pack(trackers, ["a", "a"], [[1.0, 2.0]] * 2, 1)
    assert [rows(tracker) for tracker in trackers] == [[], []]


def test_a_summary_stands_at_the_last_step_and_positions_are_the_journals_ends(pack):
    trackers = pack(3)
    log_pack(trackers, ["a"], [[1.0]] * 3, 9)
    for tracker in trackers:
        tracker.summary({"a": 1.0})
    assert [rows(tracker)[-1] for tracker in trackers] == [("final/a", 9, 1.0)] * 3
    assert sync_runs(trackers) == [tracker.journal.path.stat().st_size for tracker in trackers]


def test_an_unknown_status_ends_no_run(pack):
    trackers = pack(2)
    with pytest.raises(ValueError, match="got 'DONE'"):
        finish_runs(trackers, ["FINISHED", "DONE"])
    finish_runs(trackers, ["FINISHED", "KILLED"])
    finish_runs(trackers, ["FAILED", "FAILED"])  # the first end counts
    ends = [json.loads(tracker.journal.path.read_text().splitlines()[-1])["status"] for tracker in trackers]
    assert ends == ["FINISHED", "KILLED"]
