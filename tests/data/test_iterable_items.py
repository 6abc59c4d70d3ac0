"""Data sets that are only iterated: read once, by number in the order in which they give their items."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from data.map_datasets import CLASSES, VALUES
from reglab.config.trust import isolated, trust
from reglab.core.errors import UserError
from reglab.data import DataSet, iterable_items, load


@pytest.fixture(autouse=True)
def trusted():
    with isolated():
        trust("data")
        yield


def loaded(name: str, **options: Any) -> DataSet:
    return load({"name": "dataset", "_target_": f"data.map_datasets.{name}", "workers": 0} | options)


@pytest.mark.parametrize(
    "options",
    [{"of": "Pairs"}, {"of": "Mappings", "inputs": "pixels", "targets": "label"}, {"of": "Bytes"}, {"of": "Ids"}],
    ids=lambda options: options["of"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_items_are_those_that_can_be_asked_for_by_number(options, stream):
    given = loaded("Stream", stream=stream, take=1000 if stream else None, **options)
    same = loaded(options["of"], stream=stream, **{key: options[key] for key in options if key != "of"})
    assert (given.digest, given.name, given.streamed) == (same.digest, "Stream", stream)


@pytest.mark.parametrize("stream", [True, False])
def test_rows_keep_the_order_in_which_they_came(stream):
    given = loaded("Endless", take=50, stream=stream, standardize=False)
    for part in (given.train, given.val, given.test):
        assert torch.equal(part.inputs[:], VALUES[part.index])
        assert torch.equal(part.targets.long(), CLASSES[part.index])
    assert len(given.train) + len(given.val) + len(given.test) == 50


def test_an_iterator_is_read_once_and_streamed_by_several_processes():
    memory, streamed = loaded("Once"), loaded("Once", stream=True, workers=2, take=90)
    order = torch.split(torch.randperm(len(memory.train), generator=torch.Generator().manual_seed(0)), 7)
    read = torch.cat(list(streamed.train.inputs.read(order, torch.device("cpu"))))
    assert torch.equal(read, memory.train.tensor[torch.cat(order)])


def test_each_part_may_be_one():
    parts = {
        part: {"_target_": "data.map_datasets.Stream", "first": 30 * number, "rows": 30}
        for number, part in enumerate(("train", "val", "test"))
    }
    given = load({"name": "dataset", "workers": 0, "standardize": False, **parts})
    assert torch.equal(given.test.tensor, VALUES[60:])


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("Endless", {}, r"Endless gave 512 items of 0\.0 GB and has more.*data\.take=512; with data\.stream=true"),
        ("Endless", {"stream": True}, r"Endless does not say how many items it has, .*data\.take=1000000"),
        ("Shuffled", {}, r"first item of .*Shuffled differs between two readings: shuffled .*reglab shuffles"),
        ("Stream", {"rows": 0}, r"Stream has no items"),
        ("Stream", {"of": "Mappings"}, r"item 0 of .*Stream is a mapping of id, pixels, label: .*data\.inputs=id"),
        ("Stream", {"rows": 91}, r"item 90 of .*Stream cannot be read \(IndexError"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(monkeypatch, name, options, message):
    free = SimpleNamespace(available=4 * 300 * 24 * 4)  # a quarter holds 300 items
    monkeypatch.setattr(iterable_items.psutil, "virtual_memory", lambda: free)
    with pytest.raises(UserError, match=message):
        loaded(name, **options)
