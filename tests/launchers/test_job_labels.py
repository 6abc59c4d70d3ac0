"""Short names for jobs."""

from reglab.config.job_request import JobRequest
from reglab.launchers.job_labels import job_labels


def job(number, block, *overrides):
    return JobRequest(number, overrides, "p", block)


def test_only_what_differs_is_named():
    labels = job_labels(
        [
            job(0, "none", "data=wine", "regularizer=[]", "seed=0"),
            job(4, "l1", "data=wine", "regularizer=[l1]", "regularizer.l1.strength=0.1", "seed=0"),
            job(5, "l1", "data=wine", "regularizer=[l1]", "regularizer.l1.strength=0.2", "seed=1"),
        ]
    )
    assert labels == {0: "none seed=0", 4: "l1 strength=0.1 seed=0", 5: "l1 strength=0.2 seed=1"}


def test_what_a_blocks_jobs_share_is_not_named():
    cocktail = ("dropout+l2", "regularizer=[dropout,l2]", "regularizer.dropout.strength=0.3")
    labels = job_labels(
        [
            job(0, "none", "regularizer=[]"),
            job(1, *cocktail, "regularizer.l2.strength=1"),
            job(2, *cocktail, "regularizer.l2.strength=2"),
        ]
    )
    assert labels == {0: "none", 1: "dropout+l2 strength=1", 2: "dropout+l2 strength=2"}


def test_a_single_job_has_a_name():
    assert job_labels([job(0, "")]) == {0: "the only job"}
    assert job_labels([job(0, "l1", "optimizer.lr=1")]) == {0: "l1 lr=1"}
