"""Short names for jobs."""

from reglab.launchers.job_labels import job_labels


def test_only_what_differs_is_named():
    common = ["data=wine", "sweep.parent=p"]
    labels = job_labels(
        {
            0: [*common, "regularizer=[]", "seed=0", "sweep.block='none'", "sweep.job=0"],
            4: [
                *common,
                "regularizer=[l1]",
                "regularizer.l1.strength=0.1",
                "seed=0",
                "sweep.block='l1'",
                "sweep.job=4",
            ],
            5: [
                *common,
                "regularizer=[l1]",
                "regularizer.l1.strength=0.2",
                "seed=1",
                "sweep.block='l1'",
                "sweep.job=5",
            ],
        }
    )
    assert labels == {0: "none seed=0", 4: "l1 strength=0.1 seed=0", 5: "l1 strength=0.2 seed=1"}


def test_what_a_blocks_jobs_share_is_not_named():
    cocktail = ["regularizer=[dropout,l2]", "regularizer.dropout.strength=0.3", "sweep.block='dropout+l2'"]
    labels = job_labels(
        {
            0: ["regularizer=[]", "sweep.block='none'"],
            1: [*cocktail, "regularizer.l2.strength=1"],
            2: [*cocktail, "regularizer.l2.strength=2"],
        }
    )
    assert labels == {0: "none", 1: "dropout+l2 strength=1", 2: "dropout+l2 strength=2"}


def test_a_single_job_has_a_name():
    assert job_labels({0: ["sweep.job=0"]}) == {0: "the only job"}
    assert job_labels({0: ["optimizer.lr=1", "sweep.block='l1'"]}) == {0: "l1 lr=1"}
