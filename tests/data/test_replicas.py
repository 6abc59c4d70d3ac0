"""Replicas: how rows are drawn, and what all replicas have in common."""

import itertools
from dataclasses import fields

import numpy as np
import pytest
import scipy.stats
import torch

from reglab.core.errors import UserError
from reglab.data import DataSet, load
from reglab.data.options import RESAMPLES, Options
from reglab.data.replicas import replica_rows
from reglab.data.source import Source
from reglab.data.split import Split, split_rows

CLASSES = np.repeat([0, 1, 2], [130, 51, 19])


def source(classes: np.ndarray = CLASSES, **columns: np.ndarray) -> Source:
    names = tuple(f"class {label}" for label in range(int(classes.max()) + 1))
    return Source("classification", np.zeros((len(classes), 1)), ("x",), classes, names, **columns)


def drawn(rows: int, replicas: int, seed: int = 0) -> list[np.ndarray]:
    """Return every bootstrap replica of a training part with the rows 0 to rows - 1."""
    split = Split(np.arange(rows), np.array([rows]), np.array([rows + 1]), "random")
    every = [Options(split="random", split_seed=seed, replicas=replicas, replica=r) for r in range(replicas)]
    return [replica_rows(split, source(np.arange(rows + 2) % 2), options) for options in every]


def cut(data: Source, replicas: int, **options: object) -> list[np.ndarray]:
    """Return every disjoint replica."""
    every = [Options(replicas=replicas, replica=r, resample="disjoint", **options) for r in range(replicas)]
    return [replica_rows(split_rows(data, one), data, one) for one in every]


def loaded(resample: str, replica: int, name: str = "digits", **options: object) -> DataSet:
    return load({"name": name, "replicas": 5, "replica": replica, "resample": resample, **options})


def test_a_bootstrap_replica_has_as_many_rows_of_which_about_63_percent_are_distinct():
    replicas = drawn(200, 400)
    assert {len(rows) for rows in replicas} == {200}
    shares = [len(np.unique(rows)) / 200 for rows in replicas]
    expected = 1 - (1 - 1 / 200) ** 200
    # The number of empty cells in the occupancy problem: Feller (1968), chapter IV.
    variance = ((1 - 1 / 200) ** 200 + 199 * (1 - 2 / 200) ** 200) / 200 - (1 - 1 / 200) ** 400
    assert abs(np.mean(shares) - expected) < 4 * np.sqrt(variance / 400)
    assert np.var(shares) == pytest.approx(variance, rel=0.3)


def test_bootstrap_draws_are_uniform_and_independent_between_replicas_and_places():
    replicas = np.stack(drawn(50, 1000, seed=3))
    assert scipy.stats.chisquare(np.bincount(replicas.ravel(), minlength=50)).pvalue > 1e-3
    for first, second in ((replicas[:-1], replicas[1:]), (replicas[:, :-1], replicas[:, 1:])):
        pairs = np.bincount((first * 50 + second).ravel(), minlength=2500)
        assert scipy.stats.chisquare(pairs).pvalue > 1e-3


def test_bootstrap_replicas_stay_when_there_are_more_of_them_and_change_with_the_split_seed():
    few, many, other = drawn(100, 3), drawn(100, 6), drawn(100, 3, seed=1)
    assert all(map(np.array_equal, few, many))
    assert not any(map(np.array_equal, few, other))


@pytest.mark.parametrize("split", ["stratified", "random"])
def test_disjoint_parts_are_equal_in_size_and_leave_out_only_what_does_not_divide(split):
    train = split_rows(source(), Options(split=split)).train
    assert len(train) == 120
    parts = cut(source(), 7, split=split)
    assert {len(rows) for rows in parts} == {17}
    assert set(np.concatenate(parts)) == set(train[:119])
    assert sum(len(set(one) & set(other)) for one, other in itertools.combinations(parts, 2)) == 0


def test_disjoint_parts_of_a_stratified_split_share_every_class():
    counts = np.stack([np.bincount(CLASSES[rows], minlength=3) for rows in cut(source(), 7)])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    assert (counts > 0).all()


def test_disjoint_parts_of_another_split_are_drawn_whatever_the_class():
    found, expected = [], []
    for seed in range(100):
        parts = cut(source(), 4, split="random", split_seed=seed)
        ones = [int((CLASSES[rows] == 1).sum()) for rows in parts]
        found.append(np.mean((np.array(ones) - sum(ones) / 4) ** 2))
        expected.append(scipy.stats.hypergeom(120, sum(ones), 30).var())
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.3)


def test_disjoint_parts_change_with_the_split_seed_and_are_not_neighbours():
    data = source(np.arange(400) % 2)
    first, second = (cut(data, 4, split_seed=seed)[0] for seed in (0, 1))
    assert set(first) != set(second)
    assert scipy.stats.kstest(first / 400, "uniform").pvalue > 1e-3


def test_the_training_size_applies_before_resampling():
    whole = set(load({"name": "digits", "train_size": 100}).train.index.tolist())
    bootstrap, disjoint = (loaded(resample, 2, train_size=100).train.index.tolist() for resample in RESAMPLES)
    assert (len(bootstrap), len(disjoint)) == (100, 20)
    assert set(bootstrap) < whole
    assert set(disjoint) < whole


@pytest.mark.parametrize("resample", RESAMPLES)
def test_groups_and_times_of_other_parts_are_never_trained_on(resample):
    blocks = np.arange(200) // 4
    for split, column in (("grouped", "group"), ("time", "time")):
        data = source(np.arange(200) % 2, **{column: blocks})
        options = Options(split=split, replicas=3, replica=1, resample=resample, **{column: "column"})
        parts = split_rows(data, options)
        seen = set(blocks[replica_rows(parts, data, options)])
        assert not seen & (set(blocks[parts.val]) | set(blocks[parts.test]))


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("name", ["digits", "diabetes", "multilabel"])
def test_everything_but_the_choice_of_rows_is_common_to_all_replicas(resample, name):
    options = {"label_noise": 0.2, "noise_columns": 3}
    whole = load({"name": name, **options})
    place = {number: row for row, number in enumerate(whole.train.index.tolist())}
    for replica in range(5):
        data = loaded(resample, replica, name, **options)
        rows = torch.tensor([place[number] for number in data.train.index.tolist()])
        for field in (field.name for field in fields(data.train)):
            assert torch.equal(getattr(data.train, field), getattr(whole.train, field)[rows])
            assert torch.equal(getattr(data.val, field), getattr(whole.val, field))
            assert torch.equal(getattr(data.test, field), getattr(whole.test, field))


def test_example_weights_are_those_of_the_whole_training_part():
    options = {"class_weight": "balanced"}
    whole, replica = load({"name": "wine", **options}).train, loaded("disjoint", 0, "wine", **options).train
    weights = dict(zip(whole.index.tolist(), whole.weights.tolist(), strict=True))
    assert [weights[number] for number in replica.index.tolist()] == replica.weights.tolist()


@pytest.mark.parametrize("resample", RESAMPLES)
def test_equal_configs_give_equal_bits_and_every_replica_other_ones(resample):
    every = [loaded(resample, replica, "wine") for replica in range(5)]
    again = loaded(resample, 3, "wine")
    assert torch.equal(every[3].train.index, again.train.index)
    assert every[3].digest == again.digest
    assert len({data.digest for data in every} | {load({"name": "wine"}).digest}) == 6


def test_the_summary_says_which_replica():
    summary = loaded("disjoint", 3, "wine").summary
    assert {"replicas": 5, "replica": 3, "resample": "disjoint", "train_rows": 106 // 5}.items() <= summary.items()
    assert not {"replicas", "replica", "resample"} & load({"name": "wine"}).summary.keys()


def test_more_disjoint_parts_than_rows_are_refused():
    with pytest.raises(
        UserError, match=r"data\.replicas=121 .* cuts 120 training rows .* at most 120, or data\.resamp"
    ):
        cut(source(), 121, split="random")
    assert {len(rows) for rows in cut(source(), 120, split="random")} == {1}


def test_a_class_too_rare_for_every_disjoint_part_is_refused_under_a_stratified_split():
    with pytest.raises(UserError, match=r"class 'class 2' has 11 training rows, too few for data\.replicas=20"):
        cut(source(), 20)
    assert len(cut(source(), 20, split="random")) == 20
