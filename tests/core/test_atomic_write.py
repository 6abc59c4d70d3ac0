"""Durable files: whole, or as they were."""

import os
from pathlib import Path

import pytest

from reglab.core import atomic_write


def test_it_is_durable_before_it_is_in_place_and_so_is_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, order = tmp_path / "new" / "file.json", []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (order.append(path.exists()), real(number)))
    atomic_write.write(path, "ä")
    assert order == [False, True]
    assert path.read_bytes() == "ä".encode()
    assert [file.name for file in path.parent.iterdir()] == ["file.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write.write(path, b"old")
    with pytest.raises(TypeError, match="bytes"), atomic_write.writing(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]  # the error is what is wanted
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
