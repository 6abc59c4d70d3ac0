"""What was read from files before is not read again while they stay the same."""

import os

import numpy as np
import pytest

from reglab.data import load
from reglab.data.array_reader import FileReader

ROWS = 40


@pytest.fixture
def reads(monkeypatch):
    """Count the rows that are read."""
    counted, read = [], FileReader.read

    def counting(self, rows):
        counted.append(len(rows))
        return read(self, rows)

    monkeypatch.setattr(FileReader, "read", counting)
    return counted


def test_the_same_files_are_read_once_for_scale_and_digest(tmp_path, reads):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", generator.normal(size=(ROWS, 3)))
    np.save(tmp_path / "y.npy", np.arange(ROWS) % 2)
    node = {"name": "arrays", "inputs": str(tmp_path / "x.npy"), "targets": str(tmp_path / "y.npy")}
    node |= {"workers": 0, "stream": True}

    def digest(**options):
        reads.clear()
        return load(node | options).digest, sum(reads)

    first, all_rows = digest()
    assert all_rows == 24 + ROWS  # the training rows for the scale, and all for the digest
    assert digest() == (first, 0)
    noisy, again = digest(label_noise=0.5)
    assert noisy != first
    assert again == ROWS  # the scale is the same
    assert digest(split_seed=1)[1] == 24 + ROWS
    assert digest(standardize=False)[1] == ROWS
    assert digest() == (first, 0)
    changed = np.load(tmp_path / "x.npy")
    changed[3, 1] += 1
    np.save(tmp_path / "x.npy", changed)
    os.utime(tmp_path / "x.npy", ns=(0, 0))
    other, read = digest()
    assert other != first
    assert read == 24 + ROWS
    assert other == load(node | {"stream": False}).digest
