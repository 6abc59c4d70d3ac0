"""The file of a run's losses by example."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from reglab.analysis import per_example_file
from reglab.analysis.per_example_file import Examples
from reglab.core.errors import UserError

SMALL = Examples(
    val_index=np.array([4, 0, 9]),
    val_loss=np.array([0.5, 0.0, 3.5], np.float32),
    val_score=np.array([1.0, 1.0, 0.0], np.float32),
    probe_index=np.array([7, 7]),
    probe_loss=np.array([0.25, 0.25]),
    probe_score=np.ones(2, np.float32),
)
FULL = replace(
    SMALL,
    val_weight=np.array([1.0, 2.0, 0.5], np.float32),
    probe_weight=np.array([2.0, 2.0], np.float32),
    val_outputs=np.arange(6, dtype=np.float32).reshape(3, 2),
    val_targets=np.array([0, 1, 1]),
    val_expected=np.array([0.1, 0.9, 0.8]),
    val_constant_loss=np.array([0.7, 0.7, 0.6], np.float32),
    val_constant_score=np.array([1.0, 1.0, 0.0], np.float32),
    val_monitor=np.array([0.1, 0.2, 0.3], np.float32),
    val_constant_monitor=np.array([0.5, 0.5, 0.5], np.float32),
    train_rows=np.array(40),
)


@pytest.mark.parametrize("kept", [SMALL, FULL])
def test_what_is_written_is_read(kept: Examples, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        kept.write(tmp_path / name)
    actual = per_example_file.read(tmp_path / "a.npz")
    for field in fields(Examples):
        mine, right = getattr(actual, field.name), getattr(kept, field.name)
        if right is None:
            assert mine is None
        else:
            np.testing.assert_array_equal(mine, right)
            assert mine.dtype == right.dtype
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_it_is_numpys_own_file(tmp_path: Path) -> None:
    FULL.write(tmp_path / "examples.npz")
    with np.load(tmp_path / "examples.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {field.name for field in fields(Examples)}
        np.testing.assert_array_equal(arrays["val_loss"], FULL.val_loss)


@pytest.mark.parametrize(
    "wrong",
    [
        {"val_loss": np.zeros(2, np.float32)},
        {"val_index": np.array([0.0, 1.0, 2.0])},
        {"val_score": np.zeros((1, 3), np.float32)},
        {"probe_weight": np.ones(3, np.float32)},
        {"val_outputs": np.zeros((2, 3), np.float32)},
        {"val_targets": np.array(["a", "b", "c"])},
        {"val_index": np.array(3), "val_loss": np.array(1.0)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(wrong: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(FULL, **wrong)
    arrays = {field.name: getattr(FULL, field.name) for field in fields(Examples)}
    np.savez(tmp_path / "wrong.npz", **{**arrays, **wrong})
    with pytest.raises(UserError, match="train the run again"):
        per_example_file.read(tmp_path / "wrong.npz")


def test_pickles_are_refused_before_they_are_read(tmp_path: Path) -> None:
    arrays = {field.name: getattr(SMALL, field.name) for field in fields(Examples)}
    trap = np.array([Trap(tmp_path / "sprung")] * 3, dtype=object)
    np.savez(tmp_path / "trap.npz", **{**{k: v for k, v in arrays.items() if v is not None}, "val_loss": trap})
    with pytest.raises(UserError, match="Object arrays cannot be loaded"):
        per_example_file.read(tmp_path / "trap.npz")
    assert not (tmp_path / "sprung").exists()


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (Path.touch, (self.path,))


def test_another_file_is_told(tmp_path: Path) -> None:
    FULL.write(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    middle = len(whole) // 2
    np.save(tmp_path / "one.npy", FULL.val_loss)
    np.savez(tmp_path / "few.npz", val_loss=FULL.val_loss)
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(whole[:middle])
    for name in ("absent.npz", "one.npy", "few.npz", "empty.npz", "cut.npz"):
        with pytest.raises(UserError, match=f"{name} is not a readable file of per-example losses"):
            per_example_file.read(tmp_path / name)
    for index in range(40, middle, 97):  # a changed byte is told, or stands where nothing is read
        (tmp_path / "changed.npz").write_bytes(whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1 :])
        try:
            actual = per_example_file.read(tmp_path / "changed.npz")
        except UserError:
            continue
        np.testing.assert_array_equal(actual.val_loss, FULL.val_loss)


def test_reading_needs_no_torch() -> None:
    program = "import reglab.analysis.per_example_file, reglab.reports.per_example, sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "mlflow", "pytorch_lightning"} & set(done.stdout.split())
