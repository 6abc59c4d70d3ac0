"""Arrays on disk: read by position, whatever their size, with the numbers that NumPy has of them."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch

import reglab
from reglab.config.fingerprint import fingerprint
from reglab.core.errors import UserError
from reglab.data import DataSet, load
from reglab.data.array_reader import FileReader

GENERATOR = np.random.default_rng(0)
ROWS = 700  # more than two blocks
INPUTS = {
    "columns": GENERATOR.normal(3, 2, (ROWS, 5)),
    "half": GENERATOR.normal(3, 2, (ROWS, 5)).astype(np.float16),
    "signals": GENERATOR.normal(-1, 4, (ROWS, 2, 6)).astype(np.float32),
    "bytes": GENERATOR.integers(0, 256, (ROWS, 3, 4, 4), dtype=np.uint8),
    "whole": GENERATOR.integers(-9, 9, (ROWS, 4)),
}
TARGETS = GENERATOR.integers(0, 3, ROWS)


@pytest.fixture
def files(tmp_path):
    def files(inputs: Any, targets: Any = TARGETS, **options: Any) -> DataSet:
        np.save(tmp_path / "x.npy", inputs)
        np.save(tmp_path / "y.npy", targets)
        paths = {"inputs": str(tmp_path / "x.npy"), "targets": str(tmp_path / "y.npy")}
        return load({"name": "arrays", "workers": 0, **paths, **options})

    return files


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_standardized_as_numpy_would(files, name, stream):
    given, real = files(INPUTS[name], stream=stream), INPUTS[name].astype(np.float64)
    train = real[given.train.index]
    axis = 0 if real.ndim == 2 else None
    for part in (given.train, given.val, given.test):
        expected = (real[part.index] - train.mean(axis=axis)) / train.std(axis=axis)
        np.testing.assert_allclose(part.inputs[:].numpy(), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(part.targets, TARGETS[part.index])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", INPUTS)
def test_streamed_rows_are_those_in_memory_bit_for_bit(files, name, workers):
    memory, streamed = files(INPUTS[name], stream=False), files(INPUTS[name], stream=True, workers=workers)
    assert memory.digest == streamed.digest
    order = torch.split(torch.randperm(len(memory.train), generator=torch.Generator().manual_seed(0)), 300)
    read = torch.cat(list(streamed.train.inputs.read(order, torch.device("cpu"))))
    assert torch.equal(read, memory.train.tensor[torch.cat(order)])


def test_a_constant_column_is_only_centered_and_bytes_alike_in_all_blocks_too(files):
    values = INPUTS["columns"].copy()
    values[:, 2] = 0.1
    given = files(values, stream=True)
    assert (given.train.inputs[:][:, 2].abs() < 1e-6).all()
    assert (files(np.full((ROWS, 2, 2), 7, np.uint8)).train.tensor == 0).all()


@pytest.mark.parametrize("stream", [True, False])
def test_targets_have_a_class_at_each_position_where_the_task_has(files, stream):
    targets = INPUTS["bytes"][:, 0] % 3
    given = files(INPUTS["bytes"], targets, task="segmentation", stream=stream)
    np.testing.assert_array_equal(given.val.targets, targets[given.val.index])
    assert (given.outputs, given.criterion.name) == (3, "segmentation")
    with pytest.raises(UserError, match=r"targets must be \[rows\] or \[rows, columns\]"):
        files(INPUTS["bytes"], targets)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", ["columns", "signals", "bytes"])
def test_padding_stays_as_it_is_and_does_not_count(files, name, stream):
    values, pad = INPUTS[name].copy(), 0 if name == "bytes" else -99
    flat = values.reshape(ROWS, -1)
    flat[np.arange(flat.shape[1]) >= 2 + np.arange(ROWS)[:, None] % flat.shape[1]] = pad  # of differing lengths
    given, real = files(values, pad=pad, stream=stream, workers=0), values.astype(np.float64)
    in_training = real[given.train.index]
    if name == "columns":
        moments = [(column[column != pad].mean(), column[column != pad].std()) for column in in_training.T]
        mean, deviation = np.transpose(moments)
    else:
        mean, deviation = in_training[in_training != pad].mean(), in_training[in_training != pad].std()
    for part in (given.train, given.val):
        expected = np.where(real[part.index] == pad, pad, (real[part.index] - mean) / deviation)
        np.testing.assert_allclose(part.inputs[:], expected, rtol=1e-5, atol=1e-5)
        assert ((part.inputs[:].numpy() == pad) == (real[part.index] == pad)).all()
    same = reglab.dataset(values.astype(np.float64), TARGETS, pad=pad)
    np.testing.assert_allclose(same.train.tensor, given.train.inputs[:], rtol=1e-5, atol=1e-5)


def test_a_column_of_padding_stays_and_what_padding_cannot_be_is_refused(files):
    values = INPUTS["columns"].copy()
    values[:, 3] = 7
    assert (files(values, pad=7).train.tensor[:, 3] == 7).all()
    assert (reglab.dataset(values, TARGETS, pad=7.0).train.tensor[:, 3] == 7).all()
    with pytest.raises(UserError, match=r"data\.pad=7 is the value of all training inputs"):
        files(np.full((ROWS, 2, 2), 7, np.uint8), pad=7)
    with pytest.raises(UserError, match=r"data\.pad=0 has no effect on token ids"):
        files(np.abs(INPUTS["whole"]), tokens=True, pad=0)
    with pytest.raises(UserError, match=r"data\.pad must be a finite number.*'x'"):
        files(values, pad="x")
    values[0, 0] = np.nan
    with pytest.raises(UserError, match=r"inputs hold NaN, which is filled in, and pad=7"):
        reglab.dataset(values, TARGETS, pad=7)


def test_groups_times_and_weights_steer_the_split(files, tmp_path):
    groups = np.array([f"p{number}" for number in GENERATOR.integers(0, 30, ROWS)])
    times = np.datetime64("2020-01-01") + GENERATOR.permutation(ROWS)
    weights = GENERATOR.uniform(0, 2, ROWS)
    for name, values in {"g": groups, "t": times, "w": weights, "short": weights[1:]}.items():
        np.save(tmp_path / f"{name}.npy", values)
    path = {name: str(tmp_path / f"{name}.npy") for name in ("g", "t", "w", "short")}
    grouped = files(INPUTS["columns"], split="grouped", group=path["g"])
    seen = [set(groups[part.index]) for part in (grouped.train, grouped.val, grouped.test)]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 30
    timed = files(INPUTS["columns"], split="time", time=path["t"], sample_weight=path["w"])
    assert times[timed.train.index].max() < times[timed.val.index].min()
    assert times[timed.val.index].max() < times[timed.test.index].min()
    train = timed.train
    np.testing.assert_allclose(train.weights, weights[train.index] / weights[train.index].mean(), rtol=1e-5)
    in_python = reglab.dataset(INPUTS["columns"], TARGETS, split="time", time=times, sample_weight=weights)
    np.testing.assert_array_equal(in_python.train.index, train.index)
    np.testing.assert_array_equal(in_python.train.weights, train.weights)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"group": "{}/g.npy"}, r"data\.group=.*g\.npy needs data\.split=grouped"),
        ({"sample_weight": "{}/short.npy"}, r"data\.sample_weight holds \[699\]: it must be \[700\]"),
        ({"sample_weight": "{}/g.npy"}, r"data\.sample_weight must hold finite numbers >= 0"),
        ({"group": "{}/gone.npy", "split": "grouped"}, r"data\.group=.*gone\.npy does not exist"),
        ({"time": "{}/holes.npy", "split": "time"}, r"data\.time has no value in row 3, counted from 0"),
    ],
)
def test_files_that_steer_nothing_are_refused(files, tmp_path, options, message):
    np.save(tmp_path / "g.npy", np.array(["a", "b"] * 350))
    np.save(tmp_path / "short.npy", np.ones(699))
    np.save(tmp_path / "holes.npy", np.where(np.arange(ROWS) == 3, np.nan, 1))
    with pytest.raises(UserError, match=message):
        files(INPUTS["columns"], **{key: value.format(tmp_path) for key, value in options.items()})


def test_a_fingerprint_does_not_say_where_files_lie():
    plain = {"name": "arrays", "inputs": "x.npy", "targets": "y.npy", "split": "grouped"}
    jobs = [{"data": plain | {"group": path}, "regularizer": {}} for path in ("here/g.npy", "there/g.npy")]
    assert fingerprint(jobs[0], "digest") == fingerprint(jobs[1], "digest")
    before, now = ({"data": plain | {"group": None} | later} for later in ({}, {"pad": None}))
    assert fingerprint(before, "digest") == fingerprint(now, "digest") != fingerprint(jobs[0], "digest")


def test_tokens_stay_whole(files):
    given = files(np.abs(INPUTS["whole"]), tokens=True, stream=True)
    assert (given.tokens, given.train.inputs.dtype, given.input_shape) == (10, torch.int64, (4,))
    np.testing.assert_array_equal(given.val.inputs[:].numpy(), np.abs(INPUTS["whole"])[given.val.index])
    with pytest.raises(UserError, match="token ids must be >= 0, got -9"):
        files(INPUTS["whole"], tokens=True)
    with pytest.raises(UserError, match=r"data\.tokens=true, but data\.inputs holds float64"):
        files(INPUTS["columns"], tokens=True)


def test_a_reader_gives_any_rows_in_any_process(tmp_path):
    np.save(tmp_path / "x.npy", INPUTS["signals"])
    reader = pickle.loads(pickle.dumps(FileReader(tmp_path / "x.npy", "inputs")))
    for rows in (np.arange(3, 9), np.array([5, 5, 699, 0]), np.array([], int)):
        np.testing.assert_array_equal(reader.read(rows), INPUTS["signals"][rows])


def test_a_file_that_became_shorter_is_told(tmp_path, files):
    given = files(INPUTS["columns"], stream=True)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:2000])
    with pytest.raises(UserError, match=r"x\.npy has become shorter while it was read"):
        _ = given.train.inputs[:]


@pytest.mark.parametrize(
    "inputs, targets, message",
    [
        (INPUTS["columns"][:5], TARGETS, r"targets must be \[rows\] .* as many rows as the inputs"),
        (INPUTS["columns"][:, 0], TARGETS, r"data\.inputs=.* must be numbers, \[rows, columns\]"),
        (np.asfortranarray(INPUTS["columns"]), TARGETS, r"C order"),
        (INPUTS["columns"].astype(str), TARGETS, r"must be numbers"),
        (np.where(INPUTS["columns"] > 6, np.nan, INPUTS["columns"]), TARGETS, r"NaN or an infinite value in row"),
    ],
)
def test_what_does_not_fit_is_refused(files, inputs, targets, message):
    with pytest.raises(UserError, match=message):
        files(inputs, targets)


def test_files_that_are_no_arrays_are_named(tmp_path):
    (tmp_path / "text.npy").write_text("1,2,3")
    np.savez(tmp_path / "several.npz", a=np.zeros((3, 3)))
    for name, message in {
        "text.npy": "no array",
        "several.npz": "several arrays",
        "none.npy": "does not exist",
    }.items():
        with pytest.raises(UserError, match=rf"data\.inputs=.*{name} .*{message}"):
            load({"name": "arrays", "inputs": str(tmp_path / name), "targets": str(tmp_path / name)})
