"""``pack.json``: read back as it was written, and no longer once a job was begun anew."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reglab.tracking import pack_manifest
from reglab.tracking.folder import Identity, write_identity
from reglab.tracking.pack_manifest import Manifest


@pytest.fixture
def written(tmp_path: Path) -> Manifest:
    folders = [tmp_path / "sweep" / name for name in ("3", "1")]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        write_identity(folder, Identity(f"run{number}", "a name", None, None))
    made = Manifest("parent", (3, 1), tuple(map(str, folders)), ("run0", "run1"), ("a", "b"))
    made.write(steps=7)
    return made


def test_it_is_read_back(written: Manifest) -> None:
    assert pack_manifest.read(Path(written.folders[0])) == replace(written, steps=7)


def test_it_moves_with_its_sweep(written: Manifest, tmp_path: Path) -> None:
    shutil.move(tmp_path / "sweep", tmp_path / "elsewhere")
    found = pack_manifest.read(tmp_path / "elsewhere" / "3")
    assert found is not None
    assert found.folders == (str(tmp_path / "elsewhere" / "3"), str(tmp_path / "elsewhere" / "1"))


def test_a_server_that_numbers_a_run_later_does_not_end_it(written: Manifest) -> None:
    write_identity(Path(written.folders[1]), Identity("of the server", "a name", None, None, local="run1"))
    assert pack_manifest.read(Path(written.folders[0])) == replace(written, steps=7)


def test_a_job_that_was_begun_anew_ends_it(written: Manifest) -> None:
    write_identity(Path(written.folders[1]), Identity("another", "a name", None, None))
    assert pack_manifest.read(Path(written.folders[0])) is None


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"jobs": 3}', '{"parent": "p", "jobs": ["x"]}'])
def test_what_is_no_manifest_is_none(content: str, written: Manifest) -> None:
    Path(written.folders[0], pack_manifest.MANIFEST).write_text(content)
    assert pack_manifest.read(Path(written.folders[0])) is None


def test_removing_leaves_nothing(written: Manifest) -> None:
    home = Path(written.folders[0])
    for name in ("pack.ckpt", "pack.previous.ckpt"):
        (home / name).touch()
    pack_manifest.remove(home)
    pack_manifest.remove(home)
    assert not list(home.glob("pack*"))
