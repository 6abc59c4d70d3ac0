"""A user's own data sets: read once or streamed with the same bits, split or in given parts, or refused."""

from typing import Any

import numpy as np
import psutil
import pytest
import torch

import reglab
from data.map_datasets import CLASSES, VALUES, Endless, Mappings, Pairs
from reglab.config.trust import isolated, trust
from reglab.core.errors import UserError
from reglab.data import DataSet, load


@pytest.fixture(autouse=True)
def trusted():
    with isolated():
        trust("data")
        yield


def loaded(name: str, **options: Any) -> DataSet:
    return load({"name": "dataset", "_target_": f"data.map_datasets.{name}", "workers": 0} | options)


def test_items_are_split_and_standardized_by_the_training_rows():
    given = loaded("Pairs", val_size=20, test_size=10)
    assert (given.name, given.task, given.outputs, given.input_shape) == ("Pairs", "binary", 1, (2, 3, 4))
    assert (len(given.train), len(given.val), len(given.test)) == (60, 20, 10)
    real = VALUES.double().numpy()
    trained = real[given.train.index]
    for part in (given.train, given.val, given.test):
        expected = (real[part.index] - trained.mean()) / trained.std()
        np.testing.assert_allclose(part.tensor.numpy(), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(part.targets, CLASSES[part.index])


def test_items_have_a_target_at_each_position_where_the_task_has():
    given = loaded("Masks", task="segmentation")
    assert (given.task, given.outputs, given.train.targets.shape[1:]) == ("segmentation", 2, (3, 4))
    assert given.train.targets.unique().tolist() == [-100, 0, 1]
    with pytest.raises(UserError, match=r"segmentation takes whole numbers \[rows, \.\.\.\] as targets, got float64"):
        loaded("Bytes", task="segmentation")
    with pytest.raises(UserError, match="did you mean 'segmentation'"):
        loaded("Masks", task="segmentatoin")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "name, options",
    [
        ("Pairs", {}),
        ("Pairs", {"standardize": False, "replicas": 3, "replica": 1}),
        ("Pairs", {"label_noise": 0.3, "folds": 3, "fold": 2, "class_weight": "balanced"}),
        ("Mappings", {"inputs": "pixels", "targets": "label"}),
        ("Bytes", {"train_size": 20}),
        ("Ids", {}),
        ("Masks", {"task": "segmentation"}),
    ],
)
def test_streamed_rows_are_those_in_memory_bit_for_bit(name, options, workers):
    memory = loaded(name, stream=False, **options)
    streamed = loaded(name, **options | {"stream": True, "workers": workers})
    assert (memory.streamed, streamed.streamed) == (False, True)
    assert memory.digest == streamed.digest
    assert memory.summary == streamed.summary
    assert (memory.tokens, memory.input_shape) == (streamed.tokens, streamed.input_shape)
    for ours, theirs in ((memory.train, streamed.train), (memory.val, streamed.val), (memory.test, streamed.test)):
        batches = torch.split(torch.randperm(len(ours), generator=torch.Generator().manual_seed(1)), 4)
        read = torch.cat(list(theirs.inputs.read(batches, torch.device("cpu"))))
        assert read.dtype == ours.tensor.dtype
        assert torch.equal(read, ours.tensor[torch.cat(batches)])
        assert torch.equal(theirs.inputs[1:3], ours.tensor[1:3])
        assert torch.equal(theirs.inputs.take(torch.tensor([2, 0]))[:], ours.tensor[[2, 0]])


def test_pictures_and_tokens_are_read_as_what_they_are():
    assert loaded("Bytes").input_shape == (1, 3, 4)
    assert loaded("Bytes").task == "regression"
    tokens = loaded("Ids")
    assert (tokens.tokens, tokens.task, tokens.train.tensor.dtype) == (12, "binary", torch.int64)
    assert loaded("Mappings", inputs="pixels", targets="label").target_names == ("no", "yes")


def test_parts_that_are_given_stay_as_they_are():
    def node(first: int, rows: int) -> dict[str, Any]:
        return {"_target_": "data.map_datasets.Pairs", "first": first, "rows": rows}

    parts = {"train": node(0, 50), "val": node(50, 30), "test": node(80, 10)}
    given = load({"name": "dataset", "workers": 0, "train_size": 40, "label_noise": 0.1, **parts})
    assert set(given.train.index.tolist()) < set(range(50))
    assert (len(given.train), len(set(given.train.index.tolist())), int(given.train.corrupted.sum())) == (40, 40, 4)
    np.testing.assert_array_equal(given.val.index, np.arange(50, 80))
    np.testing.assert_array_equal(given.test.targets, CLASSES[80:])
    with pytest.raises(UserError, match=r"data\.folds=3 cuts parts, and all of them are given: leave it out"):
        load({"name": "dataset", "folds": 3, **parts})
    with pytest.raises(UserError, match=r"data\.test\._target_ is missing"):
        load({"name": "dataset", "train": parts["train"], "val": parts["val"]})
    with pytest.raises(UserError, match=r"data\.first: give the arguments of each part by \+data\.train\.first"):
        load({"name": "dataset", "first": 3, **parts})
    with pytest.raises(UserError, match="give one or the other"):
        loaded("Pairs", **parts)


def test_arguments_reach_the_class_also_those_with_the_name_of_an_option():
    assert sum(map(len, (lambda it: (it.train, it.val, it.test))(loaded("Pairs", rows=40)))) == 40
    given = loaded("Splits", arguments={"split": "half"})
    assert len(given.train) + len(given.val) + len(given.test) == 45
    with pytest.raises(UserError, match=r"data\.row: Pairs has no such argument; did you mean 'rows'"):
        loaded("Pairs", row=40)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("Restless", {}, r"item 0 of .*Restless differs between two readings: random transforms"),
        ("Broken", {"how": "gone"}, r"item 70 of .*Broken cannot be read \(OSError: the disk is gone\)"),
        ("Broken", {"how": "gone", "workers": 2}, r"item 70 of .*Broken cannot be read \(OSError: the disk is gone\)"),
        ("Broken", {"how": "shape"}, r"item 70 .*\[1, 3, 4\], and those of item 0 float32 \[2, 3, 4\].*pad"),
        ("Broken", {"how": "text"}, r"inputs of item 0 .* must be an array of numbers"),
        ("Broken", {"how": "alone"}, r"must be a pair \(inputs, target\), or a mapping"),
        ("Broken", {"how": "nan"}, r"NaN or an infinite value in row 7, counted from 0: fill it in"),
        ("Mappings", {}, r"is a mapping of id, pixels, label: .*data\.inputs=id"),
        ("Mappings", {"inputs": "pixel", "targets": "label"}, r"data\.inputs=pixel is no key .*did you mean 'pixels'"),
        ("Pairs", {"inputs": 0, "targets": 1}, r"is a pair, and data\.inputs and data\.targets name keys"),
        ("Pairs", {"rows": 0}, r"has no items: its __len__ returned 0"),
        ("Pairs", {"noise_columns": 2}, r"data\.noise_columns=2 .*"),
        ("Neither", {}, r"has no __len__ and __getitem__, and no __iter__"),
        ("Pairs", {"take": 5}, r"data\.take=5 is of data sets that are only iterated, and .* has a length"),
        ("Endless", {"take": 0}, r"data\.take must be a whole number >= 1, got 0"),
        ("function", {}, r"is not a subclass of"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_a_sentence(name, options, message):
    with pytest.raises(UserError, match=message):
        loaded(name, **options)


def test_a_class_of_nobody_that_is_trusted_is_not_imported():
    for target in ("other.Data", "torch.utils.data.TensorDataset", "reglab.data.item_reader.ItemReader"):
        with pytest.raises(UserError, match=r"not trusted to be imported|not a class that a configuration builds"):
            load({"name": "dataset", "_target_": target})


def test_a_dataset_is_given_in_python_as_it_is():
    given, same = reglab.dataset(Pairs(), workers=0, val_size=20), loaded("Pairs", val_size=20)
    assert (given.digest, given.name) == (same.digest, "Pairs")
    streamed = reglab.dataset(Mappings(), "label", inputs="pixels", stream=True, workers=0)
    assert streamed.streamed
    assert streamed.target_names == ("no", "yes")
    with pytest.raises(UserError, match=r"dataset\(worker=\.\.\.\) is not an option; did you mean 'workers'"):
        reglab.dataset(Pairs(), worker=2)
    assert reglab.dataset(Endless(), take=90, workers=0, val_size=20).digest == same.digest


def test_fit_streams_with_the_bits_of_memory_and_leaves_no_process():
    trained, before = [], psutil.Process().children()
    for stream in (True, False):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 1))
        given = reglab.dataset(Pairs(), stream=stream, workers=2)
        fit = reglab.fit(model, given, reglab.L1(1e-3), epochs=2, batch_size=8, trainer={"accelerator": "cpu"})
        trained.append((fit.metrics, model[1].weight))
        assert psutil.Process().children() == before
    assert trained[0][0] == trained[1][0]
    assert torch.equal(trained[0][1], trained[1][1])
