"""Whatever training, validation or testing sees is in the digest."""

from dataclasses import fields, replace

import pytest
import torch

from reglab.data import Part, load
from reglab.data.digest import digest

OPTIONS = [
    {"split_seed": 1},
    {"train_size": 0.5},
    {"val_size": 0.3},
    {"test_size": 0.3},
    {"folds": 5},
    {"folds": 5, "fold": 1},
    {"replicas": 5},
    {"replicas": 5, "replica": 1},
    {"replicas": 5, "resample": "disjoint"},
    {"label_noise": 0.1},
    {"noise_columns": 1},
    {"class_weight": "balanced"},
    {"split": "random"},
    {"standardize": False},
]


def part() -> Part:
    rows = torch.arange(4)
    return Part(torch.ones(4, 2), rows, rows, torch.ones(4), torch.zeros(4, dtype=torch.bool), rows)


@pytest.mark.parametrize("field", [field.name for field in fields(Part)])
@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_one_changed_entry_of_any_tensor_changes_the_digest(field, name):
    parts = {"train": part(), "val": part(), "test": part()}
    changed = getattr(parts[name], field).clone()
    changed.view(-1)[-1] = not changed.view(-1)[-1]
    assert digest(parts, "") != digest(parts | {name: replace(parts[name], **{field: changed})}, "")


def test_the_same_bytes_in_another_shape_type_part_or_task_are_other_data():
    parts = {"train": part(), "val": part()}
    reference = digest(parts, "regression")
    folded = {"train": replace(part(), inputs=torch.ones(4, 1, 2)), "val": part()}
    retyped = {"train": replace(part(), inputs=torch.ones(4, 2).view(torch.int32)), "val": part()}
    moved = {"val": part(), "train": part()}
    assert len({reference, digest(folded, "regression"), digest(retyped, "regression"), digest(parts, "binary")}) == 4
    assert digest(moved, "regression") != reference


def test_every_option_that_changes_the_data_changes_the_digest():
    digests = [load({"name": "wine", **options}).digest for options in [{}, *OPTIONS]]
    assert len(set(digests)) == len(digests)


def test_batch_size_does_not():
    assert load({"name": "wine", "batch_size": 8}).digest == load({"name": "wine"}).digest


def test_the_digest_is_a_sha256():
    assert len(bytes.fromhex(load({"name": "wine"}).digest)) == 32
