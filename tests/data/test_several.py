"""Several inputs of an example: from files and from mappings, each standardized as it would be alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import reglab
from data.map_datasets import CLASSES, VALUES, Pairs
from reglab.config.trust import isolated, trust
from reglab.core.errors import UserError
from reglab.data import DataSet, load

META = torch.randn(90, 5, generator=torch.Generator().manual_seed(1)) * 3 + 1


@pytest.fixture(autouse=True)
def trusted():
    with isolated():
        trust("data")
        yield


@pytest.fixture(params=["arrays", "dataset"])
def given(request, tmp_path) -> Any:
    """Load an image and five numbers of each of 90 examples, from files or items."""
    np.save(tmp_path / "image.npy", VALUES.numpy())
    np.save(tmp_path / "meta.npy", META.numpy())
    np.save(tmp_path / "y.npy", CLASSES.numpy())
    files = {
        "name": "arrays",
        "inputs": [str(tmp_path / "image.npy"), str(tmp_path / "meta.npy")],
        "targets": str(tmp_path / "y.npy"),
    }
    own = {
        "name": "dataset",
        "_target_": "data.map_datasets.Examples",
        "inputs": ["image", "meta"],
        "targets": "label",
    }
    node = files if request.param == "arrays" else own
    return lambda **options: load(node | {"workers": 0} | options)


@pytest.mark.parametrize("stream", [True, False])
def test_each_is_standardized_as_it_would_be_alone(given, stream):
    both: DataSet = given(stream=stream)
    assert [(each.name, each.shape) for each in both.several] == [("image", (2, 3, 4)), ("meta", (5,))]
    assert both.feature_names[23:25] == ("image_23", "meta_0")
    image, meta = VALUES.double().numpy(), META.double().numpy()
    train = both.train.index
    for part in (both.train, both.val, both.test):
        inputs = part.inputs[:].numpy()
        expected = (image[part.index] - image[train].mean()) / image[train].std()
        np.testing.assert_allclose(inputs[:, :24], expected.reshape(-1, 24), rtol=1e-4, atol=1e-5)
        expected = (meta[part.index] - meta[train].mean(axis=0)) / meta[train].std(axis=0)
        np.testing.assert_allclose(inputs[:, 24:], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"standardize": False}, {"pad": -99}])
def test_streamed_rows_are_those_in_memory_bit_for_bit(given, options):
    memory, streamed = given(stream=False, **options), given(stream=True, **options | {"workers": 2})
    assert memory.digest == streamed.digest
    order = torch.split(torch.randperm(len(memory.train), generator=torch.Generator().manual_seed(0)), 7)
    read = torch.cat(list(streamed.train.inputs.read(order, torch.device("cpu"))))
    assert torch.equal(read, memory.train.tensor[torch.cat(order)])


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.meta = nn.Linear(24, 1), nn.Linear(5, 1)

    def forward(self, image: Tensor, meta: Tensor) -> Tensor:
        outputs: Tensor = self.image(image.flatten(1)) + self.meta(meta)
        return outputs


def test_fit_gives_them_to_a_network_apart(given):
    torch.manual_seed(0)
    fit = reglab.fit(Both(), given(), reglab.L2(1e-3), epochs=2, batch_size=8, trainer={"accelerator": "cpu"})
    both = given(standardize=False)
    assert np.isfinite(fit.metrics["val/loss"])
    assert fit.model(both.val.tensor[:, :24].reshape(-1, 2, 3, 4), both.val.tensor[:, 24:]).shape == (18, 1)


def test_what_cannot_be_joined_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 2)))
    np.save(tmp_path / "b.npy", np.zeros((6, 2)))
    files = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    with pytest.raises(UserError, match=r"data\.inputs names files of 5 and 6 rows: give files with the same rows"):
        load({"name": "arrays", "inputs": files, "targets": files[0]})
    node = {"name": "dataset", "_target_": "data.map_datasets.Examples", "workers": 0, "targets": "label"}
    with pytest.raises(UserError, match=r"inputs id of item 0 .* token ids: beside other inputs they are not taken"):
        load(node | {"inputs": ["image", "id"]})
    with pytest.raises(UserError, match=r"data\.inputs=mata is no key of item 0 .*did you mean 'meta'"):
        load(node | {"inputs": ["image", "mata"]})
    with pytest.raises(UserError, match=r"inputs of item 7 .* are image \[3, 2, 4\], meta \[5\], and those of item 0"):
        load(node | {"inputs": ["image", "meta"], "rotated": 7})
    for empty in (node | {"inputs": []}, {"name": "arrays", "inputs": [], "targets": files[0]}):
        with pytest.raises(UserError, match=r"data\.inputs is empty: name"):
            load(empty)
    with pytest.raises(UserError, match=r"is a pair, and data\.inputs and data\.targets name keys"):
        reglab.dataset(Pairs(), inputs=["image", "meta"], targets="label")
