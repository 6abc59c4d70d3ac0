"""Every option is checked where it enters, and the error names it, its value and its range."""

from dataclasses import asdict

import pytest

from reglab.core.errors import UserError
from reglab.data.options import Options

BAD = [
    ({"batch_size": 0}, r"data\.batch_size must be a whole number >= 1, got 0"),
    ({"batch_size": "abc"}, r"data\.batch_size .* got 'abc'"),
    ({"batch_size": True}, r"data\.batch_size .* got True"),
    ({"train_size": 0}, r"data\.train_size must be a fraction in \(0, 1\] or a whole number of rows, got 0"),
    ({"train_size": 2.5}, r"data\.train_size .* got 2\.5"),
    ({"val_size": -0.1}, r"data\.val_size .* got -0\.1"),
    ({"test_size": float("nan")}, r"data\.test_size .* got nan"),
    ({"test_size": "a fifth"}, r"data\.test_size .* got 'a fifth'"),
    ({"label_noise": 1.5}, r"data\.label_noise must be a finite number from 0 to 1, got 1\.5"),
    ({"label_noise": -0.1}, r"data\.label_noise .* got -0\.1"),
    ({"noise_columns": 2.5}, r"data\.noise_columns must be a whole number >= 0, got 2\.5"),
    ({"class_weight": "balancd"}, r"data\.class_weight=balancd: did you mean 'balanced'"),
    ({"class_weight": ["a", 1]}, r"holds 'a', which is no pair of a class and its weight"),
    ({"class_weight": {"a": -1}}, r"data\.class_weight\.a must be a finite number >= 0, got -1"),
    ({"split": "stratify"}, r"data\.split=stratify: did you mean 'stratified'\? \(one of stratified, random"),
    ({"split_seed": -1}, r"data\.split_seed must be a whole number >= 0, got -1"),
    ({"folds": 1}, r"data\.folds must be a whole number >= 2, got 1"),
    ({"folds": 5, "fold": 5}, r"data\.fold must be a whole number from 0 to 4, got 5"),
    ({"fold": 2}, r"data\.fold=2 .*add data\.folds=5"),
    ({"split": "grouped"}, r"data\.split=grouped needs a column: data\.group=COLUMN"),
    ({"split": "time"}, r"data\.split=time needs a column: data\.time=COLUMN"),
    ({"group": "patient"}, r"data\.group=patient needs data\.split=grouped, got data\.split=stratified"),
    ({"time": "day", "split": "random"}, r"data\.time=day needs data\.split=time"),
    ({"replicas": 1}, r"data\.replicas must be a whole number >= 2, got 1"),
    ({"replicas": 5, "replica": 5}, r"data\.replica must be a whole number from 0 to 4, got 5"),
    ({"replica": 2}, r"data\.replica=2 .*add data\.replicas=20"),
    ({"replicas": 5, "resample": "bootstrp"}, r"data\.resample=bootstrp: did you mean 'bootstrap'"),
    ({"resample": "disjoint"}, r"data\.resample=disjoint .*add data\.replicas=20"),
    ({"standardize": "yes"}, r"data\.standardize must be true or false, got 'yes'"),
]


@pytest.mark.parametrize("options, message", BAD, ids=[" ".join(map(str, case[0].items())) for case in BAD])
def test_bad_values_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Options(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"train_size": 1.0},
        {"train_size": 100},
        {"train_size": 100.0},
        {"label_noise": 1},
        {"folds": 2, "fold": 1},
        {"replicas": 2, "replica": 1, "resample": "disjoint"},
        {"class_weight": {0: 1, 1: 2.5}},
    ],
)
def test_good_values_are_kept(options):
    assert {key: asdict(Options(**options))[key] for key in options} == options
