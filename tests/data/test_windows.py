"""Windows of series: those of a loop by hand, split by time without leakage, standardized by training times."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import reglab
from reglab.core.errors import UserError
from reglab.data import DataSet, load

TIMES = 300
GENERATOR = np.random.default_rng(0)
LOAD = np.cumsum(GENERATOR.normal(size=TIMES))
HEAT = GENERATOR.normal(5, 3, TIMES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A series in order, two series in disorder, and an array."""
    day = pd.date_range("2020-01-01", periods=TIMES).strftime("%Y-%m-%d")
    state = np.where(HEAT > 5, "hot", "cold")
    one = pd.DataFrame({"day": day, "load": LOAD, "heat": HEAT, "state": state})
    one.to_csv(tmp_path / "one.csv", index=False)
    other = one.assign(load=-LOAD, heat=HEAT + 100, site="b")[40:]
    both = pd.concat([one.assign(site="a"), other]).drop(columns="state").sample(frac=1, random_state=0)
    both.to_csv(tmp_path / "both.csv", index=False)
    np.save(tmp_path / "one.npy", np.stack([LOAD, HEAT], axis=1))
    return tmp_path


def loaded(path: Path, **options: Any) -> DataSet:
    return load({"name": "windows", "path": str(path), "target": "load", "length": 8} | options)


def raw(given: DataSet, values: Any) -> Any:
    """Return targets on their own scale."""
    mean, deviation = (given.summary[f"target_{what}.{given.target_names[0]}"] for what in ("mean", "std"))
    return values * deviation + mean


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("horizon, step", [(1, 1), (5, 3)])
def test_windows_are_those_of_a_loop(folder, stream, horizon, step):
    given = loaded(folder / "one.csv", columns=["load", "heat"], horizon=horizon, step=step, stream=stream, time="day")
    starts = list(range(0, TIMES - 8 - horizon + 1, step))
    ends = {"train": (0, 180), "val": (180, 240), "test": (240, 300)}
    trained = [t for t in range(180) if any(s <= t < s + 8 for s in starts if s + 7 + horizon < 180)]
    columns = np.stack([LOAD, HEAT])
    mean, deviation = (getattr(columns[:, trained], name)(axis=1) for name in ("mean", "std"))
    for name, (first, end) in ends.items():
        part = getattr(given, name)
        expected = [n for n, s in enumerate(starts) if s >= first and s + 7 + horizon < end]
        assert sorted(part.index.tolist()) == expected
        for inputs, target, number in zip(part.inputs[:], raw(given, part.targets), part.index, strict=True):
            window = columns[:, starts[number] : starts[number] + 8]
            np.testing.assert_allclose(inputs, (window - mean[:, None]) / deviation[:, None], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(target, LOAD[starts[number] + 7 + horizon], rtol=1e-5, atol=1e-5)
    assert (given.input_shape, given.task, given.streamed) == ((2, 8), "regression", stream)
    assert given.feature_names[:8] == tuple(f"load[{lag}]" for lag in range(-7, 1))


@pytest.mark.parametrize("options", [{}, {"folds": 3, "fold": 1}, {"standardize": False}, {"train_size": 30}])
def test_streamed_windows_are_those_in_memory_bit_for_bit(folder, options):
    given = options | {"series": "site", "time": "day"}
    memory, streamed = (loaded(folder / "both.csv", stream=stream, **given) for stream in (False, True))
    assert memory.digest == streamed.digest
    order = torch.split(torch.randperm(len(memory.train), generator=torch.Generator().manual_seed(0)), 7)
    read = torch.cat(list(streamed.train.inputs.read(order, torch.device("cpu"))))
    assert torch.equal(read, memory.train.tensor[torch.cat(order)])


def test_training_on_streamed_windows_ends_with_the_weights_of_training_in_memory(folder):
    weights = []
    for stream in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 1))
        given = loaded(folder / "one.csv", columns=["load"], stream=stream)
        reglab.fit(model, given, reglab.L1(1e-3), epochs=2, trainer={"accelerator": "cpu"})
        weights.append(model[1].weight)
    assert torch.equal(*weights)


def test_a_window_lies_in_one_series_and_one_part_of_time(folder):
    given = loaded(folder / "both.csv", series="site", time="day", standardize=False, horizon=[1, 4])
    seen = []
    for part, (first, end) in {given.train: (0, 180), given.val: (180, 240), given.test: (240, 300)}.items():
        for inputs in part.tensor.numpy():
            sign = 1 if inputs[1].max() < 50 else -1  # heat tells the series
            start = int(np.flatnonzero(np.isclose(sign * LOAD, inputs[0, 0], atol=1e-5))[0])
            np.testing.assert_allclose(inputs[0], sign * LOAD[start : start + 8], rtol=1e-5, atol=1e-5)
            assert first <= start
            assert start + 7 + 4 < end
            seen.append((sign, start))
    assert len(seen) == len(set(seen)) == (180 - 11) + (140 - 11) + 4 * (60 - 11)
    assert given.target_names == ("load+1", "load+4")
    assert given.outputs == 2


def test_folds_train_on_what_was_before(folder):
    given = loaded(folder / "one.csv", columns="heat", folds=3, fold=1, standardize=False)
    spans = {name: getattr(given, name).index for name in ("train", "val", "test")}  # windows are numbered by time
    assert spans["train"].max() + 8 < spans["val"].min()
    assert spans["val"].max() + 8 < spans["test"].min()


def test_classes_and_arrays(folder):
    classes = loaded(folder / "one.csv", target="state", horizon=0, columns=["load"], standardize=False, time="day")
    assert (classes.task, classes.target_names) == ("binary", ("cold", "hot"))
    np.testing.assert_array_equal(classes.val.targets, HEAT[classes.val.index + 7] > 5)
    array, table = loaded(folder / "one.npy", target=0), loaded(folder / "one.csv", columns=["load", "heat"])
    np.testing.assert_allclose(array.train.tensor, table.train.tensor, rtol=1e-6)
    assert loaded(folder / "one.npy", target=1, columns=[0]).input_shape == (1, 8)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split": "random"}, r"data\.split=random: windows overlap"),
        ({}, r"column 'day' holds no numbers.*data\.time=day; otherwise .*data\.columns=\[load,heat\]"),
        ({"columns": ["load", "hate"]}, r"data\.columns=hate is not a column: did you mean 'heat'"),
        ({"columns": ["load"], "horizon": 0}, r"data\.columns has the target 'load', whose value .*data\.horizon=1"),
        ({"columns": ["load"], "horizon": [1, 1]}, r"data\.horizon=\[1, 1\] must be a number of rows, or a list"),
        ({"columns": ["load"], "horizon": -1}, r"data\.horizon must be a whole number >= 0"),
        ({"columns": ["load"], "length": 400}, r"no series has the 401 rows .*longest has 300: choose a smaller"),
        ({"columns": ["load"], "time": "state"}, r"data\.time=state"),
        (
            {"columns": ["load"], "length": 60, "horizon": [1, 12]},
            r"no window lies within the validation or test part: data\.length=60 and data\.horizon=12 need 72 rows .*"
            r"the 300 times are cut by data\.val_size=0\.2 and data\.test_size=0\.2\. Choose a smaller data\.length",
        ),
        ({"columns": ["heat"], "path": "both.csv", "time": "day"}, r"one time twice .*data\.series=COLUMN"),
        ({"columns": ["holes"], "path": "holes.csv"}, r"'holes' has no finite value in row 3, counted from 0: fill it"),
        ({"path": "one.npy", "target": 0, "time": "day"}, r"data\.series and data\.time name columns of a table"),
        ({"columns": ["load"], "group": "site", "split": "grouped"}, r"windows overlap"),
        ({"target": None}, r"data\.path=load\.csv data\.target=load"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_a_sentence(folder, options, message):
    frame = pd.read_csv(folder / "one.csv")
    frame.assign(holes=frame.heat.where(frame.index != 3)).to_csv(folder / "holes.csv", index=False)
    path = folder / options.get("path", "one.csv")
    with pytest.raises(UserError, match=message):
        loaded(path, **{key: value for key, value in options.items() if key != "path"})
