"""A data set is a function of its config: nothing global goes in, nothing global is touched."""

import random

import numpy as np
import pytest
import torch

from reglab.data import load
from reglab.data.assemble import SOURCES

# Those need files of the user's.
ALL = [
    name
    for name in SOURCES
    if name not in ("table", "image_folder", "arrays", "parquet", "shards", "windows", "dataset")
]
SMALL = {"mnist1d": {"rows": 200}}


def small(name: str, **options: object) -> dict[str, object]:
    return {"name": name, **SMALL.get(name, {}), **options}


@pytest.mark.parametrize("name", ALL)
def test_same_config_same_bits_whatever_the_global_generators_say(name):
    config = small(name, label_noise=0.2, noise_columns=0 if name == "tokens" else 2)
    first = load(config)
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    second = load(config)
    assert first.digest == second.digest
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.train.targets, second.train.targets)


@pytest.mark.parametrize("name", ALL)
def test_loading_draws_nothing_from_global_generators(name):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    load(small(name, label_noise=0.2, noise_columns=0 if name == "tokens" else 2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("name", ALL)
def test_every_row_is_in_exactly_one_part(name):
    data = load(small(name))
    rows = torch.cat([data.train.index, data.val.index, data.test.index])
    assert sorted(rows.tolist()) == list(range(len(rows)))


def test_a_changed_tensor_does_not_reach_the_next_load():
    first = load({"name": "mnist1d", "rows": 100, "standardize": False})
    expected = first.digest
    first.train.inputs.zero_()
    first.train.targets.zero_()
    assert load({"name": "mnist1d", "rows": 100, "standardize": False}).digest == expected


def test_to_moves_every_tensor_and_keeps_values():
    part = load({"name": "wine"}).train
    moved = part.to("meta")
    assert {getattr(moved, name).device.type for name in vars(moved)} == {"meta"}
    assert torch.equal(part.to("cpu").inputs, part.inputs)
