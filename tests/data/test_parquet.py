"""Rows of Parquet files: the numbers that were written, in memory or from a temporary file of rows."""

import datetime
import pickle
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from reglab.core.errors import UserError
from reglab.data import DataSet, load, spool
from reglab.data.spool import Spool

GENERATOR = np.random.default_rng(0)
ROWS = 2300  # more than two blocks, in three files
SIGNALS = GENERATOR.normal(-1, 4, (ROWS, 2, 6)).astype(np.float32)
BYTES = (SIGNALS * 9 + 99).clip(0, 255).astype(np.uint8)
NUMBERS = GENERATOR.normal(3, 2, (ROWS, 3))
COLOURS = np.array(["red", "green", "blue"])[GENERATOR.integers(0, 3, ROWS)]
PATIENTS = np.array([f"p{number}" for number in GENERATOR.integers(0, 40, ROWS)])
DAYS = GENERATOR.permutation(ROWS)
WEIGHTS = GENERATOR.uniform(0.5, 2, ROWS)


def nested(values: Any, fixed: bool) -> pa.Array:
    last = values.shape[-1]
    if fixed:
        return pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(values.reshape(-1), last), 2)
    return pa.array(values.tolist(), pa.list_(pa.list_(pa.float32())))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, of whose lists some have a fixed size by their type and some do not."""
    for number, rows in enumerate(np.array_split(np.arange(ROWS), 3)):
        columns = {
            "signal": nested(SIGNALS[rows], fixed=False),
            "fixed": nested(SIGNALS[rows], fixed=True),
            "pixels": pa.array(BYTES[rows, 0].tolist(), pa.list_(pa.uint8(), 6)),
            "other": pa.array(BYTES[rows, 1].tolist(), pa.list_(pa.uint8(), 6)),
            "ids": pa.array((np.abs(SIGNALS[rows, 0]) * 3).astype(np.int32).tolist(), pa.list_(pa.int32(), 6)),
            "a": NUMBERS[rows, 0], "b": NUMBERS[rows, 1].astype(np.float32),
            "c": (NUMBERS[rows, 2] * 9).astype(np.int16),
            "colour": pa.array(COLOURS[rows]).dictionary_encode(), "value": NUMBERS[rows].sum(1),
            "patient": PATIENTS[rows], "weight": WEIGHTS[rows],
            "day": pa.array([datetime.date(2000, 1, 1) + datetime.timedelta(int(day)) for day in DAYS[rows]]),
        }  # fmt: skip
        parquet.write_table(pa.table(columns), tmp_path / f"part-{number}.parquet", row_group_size=300)
    (tmp_path / "_SUCCESS").write_text("")
    return tmp_path


def loaded(folder: Path, **options: Any) -> DataSet:
    return load({"name": "parquet", "path": str(folder), "targets": "colour", "workers": 0} | options)


EXPECTED = {  # inputs -> what they are
    "signal": SIGNALS,
    "fixed": SIGNALS,
    "a,b,c": np.stack([NUMBERS[:, 0], NUMBERS[:, 1].astype(np.float32), (NUMBERS[:, 2] * 9).astype(np.int16)], axis=1),
    "pixels,other": BYTES,
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("inputs", EXPECTED)
def test_inputs_are_standardized_as_numpy_would(folder, inputs, stream):
    given, real = loaded(folder, inputs=inputs.split(","), stream=stream), EXPECTED[inputs].astype(np.float64)
    train = real[given.train.index]
    axis = 0 if real.ndim == 2 else None
    assert (given.streamed, given.task, given.target_names) == (stream, "classification", ("blue", "green", "red"))
    for part in (given.train, given.val, given.test):
        expected = (real[part.index] - train.mean(axis=axis)) / train.std(axis=axis)
        np.testing.assert_allclose(part.inputs[:].numpy(), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(np.array(given.target_names)[part.targets], COLOURS[part.index])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("inputs", [*EXPECTED, "ids"])
def test_streamed_rows_are_those_in_memory_bit_for_bit(folder, inputs, workers):
    given = {"inputs": inputs.split(","), "tokens": inputs == "ids"}
    memory, streamed = (
        loaded(folder, stream=False, **given),
        loaded(folder, stream=True, **given | {"workers": workers}),
    )
    assert memory.digest == streamed.digest
    order = torch.split(torch.randperm(len(memory.train), generator=torch.Generator().manual_seed(0)), 300)
    read = torch.cat(list(streamed.train.inputs.read(order, torch.device("cpu"))))
    assert torch.equal(read, memory.train.tensor[torch.cat(order)])


def test_patterns_choose_files_and_columns_and_columns_steer(folder):
    options = {
        "targets": "value",
        "inputs": ["[ab]"],
        "split": "grouped",
        "group": "patient",
        "sample_weight": "weight",
    }
    given = loaded(folder / "part-*.parquet", **options)
    assert (given.feature_names, given.task) == (("a", "b"), "regression")
    groups = [set(PATIENTS[part.index]) for part in (given.train, given.val, given.test)]
    assert len(set.union(*groups)) == sum(map(len, groups))
    part = given.train
    np.testing.assert_allclose(part.weights, WEIGHTS[part.index] / WEIGHTS[part.index].mean(), rtol=1e-6)
    timed = loaded(folder, inputs="a", split="time", time="day")
    assert DAYS[timed.train.index].max() < DAYS[timed.val.index].min() < DAYS[timed.test.index].min()
    several = loaded(folder, inputs="signal", targets=["a", "b"])
    assert (several.outputs, several.target_names) == (2, ("a", "b"))
    dense = loaded(folder, inputs="signal", targets="pixels", task="segmentation")
    assert dense.train.targets.shape[1:] == (6,)
    one = loaded(folder / "part-1.parquet", inputs=["a"])
    assert len(one.train) + len(one.val) + len(one.test) == 767


@pytest.mark.parametrize(
    "options, message",
    [
        ({"inputs": "colour", "targets": "a"}, r"'colour' holds dictionary.*data\.inputs=\[\.\.\.\].*data=table"),
        ({"inputs": "signl"}, r"data\.inputs=signl is no column: did you mean 'signal'"),
        ({"targets": "color", "inputs": "a"}, r"data\.targets=color is no column: did you mean 'colour'"),
        ({"inputs": ["a", "signal"]}, r"'a' and 'signal' hold rows of different shapes"),
        ({"inputs": "a", "tokens": True}, r"data\.tokens=true, but the inputs hold float64"),
        ({"inputs": ["a", "colour"]}, r"data\.inputs has 'colour', which is a target"),
        ({"inputs": "ragged"}, r"lists of the column 'ragged' have different lengths \(2 in row 1"),
        ({"inputs": "holes"}, r"'holes' has no value in row 2, counted from 0"),
        ({"inputs": "a", "targets": "pixels", "task": "multilabel"}, r"multilabel targets must be 0 or 1"),
        ({"inputs": "a", "targets": "signal"}, r"a target at each position needs a task that has them"),
        ({"path": "gone"}, r"data\.path=gone has no Parquet files"),
        ({"targets": None}, r"data\.path=rows\.parquet data\.targets=label"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_a_sentence(folder, options, message):
    table = parquet.read_table(folder / "part-0.parquet").slice(0, 40)
    table = table.append_column("ragged", pa.array([[1.0], [1.0, 2.0]] * 20))
    table = table.append_column("holes", pa.array([1.0, 2.0, None, 4.0] * 10))
    parquet.write_table(table, folder / "one.parquet")
    with pytest.raises(UserError, match=message):
        loaded(folder / "one.parquet", **options)


def test_files_that_are_none_or_differ_are_named(folder):
    (folder / "houses.csv").write_text("a,colour\n1,red\n")
    with pytest.raises(UserError, match=r"houses\.csv is no Parquet file: data=table"):
        loaded(folder / "houses.csv")
    parquet.write_table(pa.table({"a": [1.0, 2.0], "colour": ["red", "blue"]}), folder / "z.parquet")
    with pytest.raises(UserError, match=r"z\.parquet has no column for 'signal', and .*part-0\.parquet .*same columns"):
        loaded(folder)
    (folder / "z.parquet").write_text("text")
    with pytest.raises(UserError, match=r"z\.parquet is no Parquet file"):
        loaded(folder)


def test_a_process_that_is_not_forked_reads_the_same_file():
    rows = np.arange(24.0).reshape(6, 2, 2)
    written = Spool([rows[:4], rows[4:]], None, "rows")
    sent = pickle.dumps(written)
    try:
        received = pickle.loads(sent)
    finally:
        resource_sharer.stop()
    del written
    for chosen in (np.arange(6), np.array([5, 0, 1, 2, 4]), np.array([], dtype=np.int64)):
        np.testing.assert_array_equal(received.read(chosen), rows[chosen])


def test_rows_that_do_not_fit_on_the_disk_are_refused_before_it_is_full(monkeypatch):
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    written: list[int] = []

    def blocks():
        for number in range(100):
            written.append(number)
            yield np.zeros((10, 5))

    with pytest.raises(UserError, match=r"many rows do not fit on the disk of .*set TMPDIR"):
        Spool(blocks(), None, "many rows")
    assert len(written) == 3  # of 400 bytes, where 900 may be taken
