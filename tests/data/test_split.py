"""Splits: proportions, whole groups, time order, folds, and what is refused."""

import itertools

import numpy as np
import pytest

from reglab.core.errors import UserError
from reglab.data.options import Options
from reglab.data.source import Source
from reglab.data.split import Split, split_rows


def source(rows: int, classes: np.ndarray | None = None, **columns: np.ndarray) -> Source:
    """Return a source of ``rows`` rows; without classes a regression."""
    if classes is None:
        task, targets, names = "regression", np.arange(float(rows)), ("y",)
    else:
        task, targets, names = "classification", classes, tuple(f"class {i}" for i in range(int(classes.max()) + 1))
    return Source(task, np.zeros((rows, 1)), ("x",), targets, names, **columns)


def parts(split: Split) -> list[set[int]]:
    return [set(rows.tolist()) for rows in (split.train, split.val, split.test)]


def test_random_sizes_are_exact_and_parts_disjoint():
    train, val, test = parts(split_rows(source(101), Options(split="random", val_size=0.3, test_size=7)))
    assert (len(train), len(val), len(test)) == (101 - 30 - 7, 30, 7)
    assert train | val | test == set(range(101))


def test_rows_are_shuffled_by_the_seed():
    first, second = (split_rows(source(200), Options(split_seed=seed)) for seed in (0, 1))
    assert set(first.val) != set(second.val)
    assert abs(np.mean(first.val) - 100) < 40  # not the last rows of the file


def test_stratified_keeps_class_proportions():
    classes = np.repeat([0, 1, 2], [120, 60, 20])
    split = split_rows(source(200, classes), Options())
    for rows in (split.train, split.val, split.test):
        counts = np.bincount(classes[rows], minlength=3)
        assert np.abs(counts - len(rows) * np.array([0.6, 0.3, 0.1])).max() <= 1
    assert split.method == "stratified"


def test_stratified_without_classes_is_random_and_says_so():
    assert split_rows(source(20), Options()).method == "random"


def test_stratified_refuses_a_class_that_would_be_missing_from_a_part():
    classes = np.repeat([0, 1], [97, 3])
    with pytest.raises(UserError, match=r"class 'class 1' has 3 rows, too few .*validation.*data\.split=random"):
        split_rows(source(100, classes), Options())
    assert split_rows(source(100, classes), Options(split="random")).method == "random"


@pytest.mark.parametrize("split", ["stratified", "random"])
def test_a_class_of_one_row_is_refused(split):
    classes = np.array([0] * 50 + [1])
    with pytest.raises(UserError, match=r"class 'class 1' has 1 row: .*data\.task=regression"):
        split_rows(source(51, classes), Options(split=split))


def test_a_single_class_is_refused():
    with pytest.raises(UserError, match=r"constant.*'class 0'"):
        split_rows(source(10, np.zeros(10, dtype=np.int64)), Options())


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole(seed):
    groups = np.random.default_rng(seed).integers(0, 40, size=400)
    split = split_rows(source(400, group=groups), Options(split="grouped", group="patient", split_seed=seed))
    train, val, test = (set(groups[rows]) for rows in (split.train, split.val, split.test))
    assert len(train) + len(val) + len(test) == len(train | val | test)
    assert train | val | test == set(groups)
    largest = np.bincount(groups).max()
    assert abs(len(split.val) - 80) <= largest
    assert abs(len(split.test) - 80) <= largest


def test_grouped_folds_test_every_group_once():
    groups = np.arange(100) // 4
    seen = []
    for fold in range(5):
        split = split_rows(source(100, group=groups), Options(split="grouped", group="g", folds=5, fold=fold))
        assert not set(groups[split.val]) & (set(groups[split.train]) | set(groups[split.test]))
        seen += split.val.tolist()
    assert sorted(seen + split.test.tolist()) == list(range(100))


def test_too_few_groups_are_refused():
    with pytest.raises(UserError, match="groups and equal times stay whole"):
        split_rows(source(10, group=np.repeat([0, 1], 5)), Options(split="grouped", group="g"))


def test_time_puts_the_past_before_the_future_and_equal_times_together():
    times = np.random.default_rng(0).integers(0, 30, size=200)
    split = split_rows(source(200, time=times), Options(split="time", time="day"))
    assert times[split.train].max() < times[split.val].min()
    assert times[split.val].max() < times[split.test].min()


def test_time_folds_never_train_on_the_future():
    times = np.arange(120)[::-1].copy()
    ends = []
    for fold in range(5):
        split = split_rows(source(120, time=times), Options(split="time", time="day", folds=5, fold=fold))
        assert times[split.train].max() < times[split.val].min() <= times[split.val].max() < times[split.test].min()
        ends.append(len(split.train))
    assert ends == [16, 32, 48, 64, 80]


def test_folds_share_the_test_part_and_validate_every_other_row_once():
    classes = np.arange(150) % 3
    splits = [split_rows(source(150, classes), Options(folds=5, fold=fold)) for fold in range(5)]
    held = parts(splits[0])[2]
    seen: list[int] = []
    for split in splits:
        train, val, test = parts(split)
        assert test == held
        assert train | val | test == set(range(150))
        assert (len(train), len(val)) == (96, 24)
        assert np.bincount(classes[split.val]).tolist() == [8, 8, 8]
        seen += val
    assert sorted(seen) == sorted(set(range(150)) - held)


@pytest.mark.parametrize("classes", [None, np.arange(300) % 3], ids=["regression", "classification"])
def test_smaller_training_parts_are_nested_and_the_others_stay(classes):
    sizes = [None, 100, 50, 10, 0.02]
    splits = [split_rows(source(300, classes), Options(train_size=size)) for size in sizes]
    assert [len(split.train) for split in splits] == [180, 100, 50, 10, 4]
    for larger, smaller in itertools.pairwise(splits):
        assert larger.train[: len(smaller.train)].tolist() == smaller.train.tolist()
        assert parts(larger)[1:] == parts(smaller)[1:]
    if classes is not None:
        assert np.bincount(classes[splits[2].train]).min() >= 16
        assert set(classes[splits[4].train]) == {0, 1, 2}


def test_the_smallest_training_part_shows_every_class_however_rare():
    classes = np.repeat([0, 1, 2, 3], [250, 30, 12, 8])
    assert sorted(classes[split_rows(source(300, classes), Options(train_size=4)).train]) == [0, 1, 2, 3]


def test_a_training_size_that_cannot_be_is_refused():
    classes = np.arange(100) % 5
    with pytest.raises(UserError, match=r"data.train_size=4 .* each of the 5 classes .* the 60 rows"):
        split_rows(source(100, classes), Options(train_size=4))
    with pytest.raises(UserError, match=r"data.train_size=61 means 61 rows.*at most the 60 rows"):
        split_rows(source(100, classes), Options(train_size=61))


@pytest.mark.parametrize(
    "sizes", [{"val_size": 0.5, "test_size": 0.5}, {"test_size": 1.0}, {"val_size": 0.001}, {"val_size": 99}]
)
def test_sizes_that_leave_a_part_empty_are_refused(sizes):
    with pytest.raises(UserError, match=r"data.val_size=.* data.test_size=.* cut 20 rows into .*each needs some"):
        split_rows(source(20), Options(**sizes))
