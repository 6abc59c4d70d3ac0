"""Tokens: from a generator and from the user's own tensor, they stay the integers that they are."""

import numpy as np
import pytest
import torch

from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.arrays import dataset

IDS = torch.from_numpy(np.random.default_rng(0).integers(0, 30, (60, 7)))
LABELS = np.arange(60) % 3


def test_one_token_of_each_sequence_tells_its_class():
    data = load({"name": "tokens", "rows": 300, "length": 9, "vocabulary": 40, "classes": 4})
    assert (data.task, data.outputs, data.input_shape, data.tokens) == ("classification", 4, (9,), 40)
    assert data.summary["standardize"] is False
    for part in (data.train, data.val, data.test):
        assert part.inputs.dtype == torch.int64
        assert part.inputs.min() >= 1
        marks = [row[(row >= 1) & (row <= 4)].tolist() for row in part.inputs]
        assert marks == [[int(target) + 1] for target in part.targets]
    words = torch.cat([part.inputs for part in (data.train, data.val, data.test)]).unique()
    assert words.tolist() == list(range(1, 40))


def test_a_larger_set_begins_with_other_draws_for_another_seed():
    first, second = (load({"name": "tokens", "rows": 100, "seed": seed}) for seed in (0, 1))
    assert first.digest != second.digest


@pytest.mark.parametrize(
    "options, message",
    [
        ({"vocabulary": 5}, r"data\.vocabulary=5 must be at least data\.classes \+ 2 = 6"),
        ({"length": 1}, r"data\.length must be a whole number >= 2"),
        ({"noise_columns": 2}, r"data\.noise_columns=2 cannot be added to tokens: set it to 0"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(UserError, match=message):
        load({"name": "tokens", **options})


def test_a_tensor_of_int64_holds_tokens():
    data = dataset(IDS, LABELS)
    assert (data.input_shape, data.tokens) == ((7,), 30)
    for part in (data.train, data.val, data.test):
        assert torch.equal(part.inputs, IDS[part.index])
        assert part.inputs.dtype == torch.int64
    data.train.inputs.zero_()
    assert IDS.max() == 29


def test_other_whole_numbers_are_quantities():
    for inputs in (IDS.numpy(), IDS.int(), IDS.tolist(), IDS.double()):
        data = dataset(inputs, LABELS)
        assert data.tokens is None
        assert data.train.inputs.dtype == torch.float32
        torch.testing.assert_close(data.train.inputs.mean(0), torch.zeros(7), atol=1e-5, rtol=0)


def test_an_id_below_zero_is_refused():
    with pytest.raises(UserError, match=r"which must be >= 0, got -100; .*inputs\.double\(\)"):
        dataset(torch.where(IDS == 3, -100, IDS), LABELS)
