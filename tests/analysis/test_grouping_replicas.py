"""Replicas repeat one setting: other training rows, the same validation rows."""

import pytest
import scipy.stats

from reglab.analysis.grouping import candidates
from reglab.analysis.trial import Trial

LOSSES = [1.0, 1.3, 1.1]


def run(strength: float, replica: int, loss: float = 1.0, seed: int = 0, **changes: str) -> Trial:
    params = {"regularizer.l2.strength": str(strength), "data.replicas": "3", "data.replica": str(replica), **changes}
    name = f"{strength} {replica} {seed}"
    return Trial(name, "l2", "l2", strength, 1, seed, {"val/loss": loss, "val/loss_se": 0.2}, params, "FINISHED")


def grouped(trials):
    return candidates(trials, "val/loss")[0]


def test_replicas_are_one_candidate_on_one_split():
    weak, strong = grouped([run(s, replica, LOSSES[replica]) for s in (0.2, 0.1) for replica in range(3)])
    assert [weak.label, strong.label] == ["l2 0.1", "l2 0.2"]
    assert weak.values("val/loss") == LOSSES
    assert len(set(weak.splits)) == 1
    # The examples are common to the replicas: their noise does not average out.
    assert weak.estimate("val/loss").error == pytest.approx((0.2**2 + scipy.stats.sem(LOSSES) ** 2) ** 0.5)


def test_each_seed_of_each_replica_counts():
    (both,) = grouped([run(0.1, replica, seed=seed) for seed in range(2) for replica in range(3)])
    assert len(both.trials) == 6


def test_a_replica_that_only_others_have_is_missing():
    whole, short = grouped([run(0.1, 0), run(0.1, 1), run(0.2, 0)])
    assert (whole.missing, short.missing) == (0, 1)


def test_another_way_to_resample_is_another_setting():
    ways = [run(0.1, replica, **{"data.resample": way}) for way in ("bootstrap", "disjoint") for replica in range(3)]
    assert [c.label for c in grouped(ways)] == ["l2 0.1 resample=bootstrap", "l2 0.1 resample=disjoint"]
