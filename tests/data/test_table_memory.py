"""Small files that hold more than the memory are refused in one sentence."""

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pytest
from pyarrow import parquet

from reglab.core.errors import UserError
from reglab.data.table_file import read_table

MOST = 1_000_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which a file may hold a megabyte."""
    monkeypatch.setattr("reglab.data.table_memory.most_bytes", lambda: MOST)


def repeated_numbers(path: Path) -> None:
    parquet.write_table(pa.table({"a": np.zeros(200_000)}), path)


def repeated_texts(path: Path) -> None:
    parquet.write_table(pa.table({"a": ["x" * 10_000] * 2_000, "b": range(2_000)}), path, compression="zstd")


def zeros(path: Path) -> None:
    path.write_bytes(gzip.compress(b"a,b\n" + b"0,0\n" * 500_000))


def workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["a", "b"])
    book.save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.png", b"\0" * 2 * MOST)


def one_text_in_many_cells(path: Path) -> None:
    book = openpyxl.Workbook()
    for _ in range(2_000):
        book.active.append(["x" * 1_000])
    book.save(path)


@pytest.mark.parametrize(
    "name, make",
    [
        ("a.parquet", repeated_numbers),
        ("a.parquet", repeated_texts),
        ("a.csv.gz", zeros),
        ("a.jsonl.gz", zeros),
        ("a.xlsx", workbook),
        ("a.xlsx", one_text_in_many_cells),
    ],
)
@pytest.mark.usefixtures("small")
def test_a_bomb_is_refused(name: str, make, tmp_path: Path) -> None:
    path = tmp_path / name
    make(path)
    assert path.stat().st_size < MOST / 10
    with pytest.raises(UserError, match="half of the free memory, are the most that is read: take fewer rows"):
        read_table(str(path))


@pytest.mark.usefixtures("small")
def test_a_plain_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("wb") as file:
        file.truncate(2 * MOST)
    with pytest.raises(UserError, match=r"holds 0\.0 GB or more"):
        read_table(str(tmp_path / "a.csv"))


def test_a_line_of_brackets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": ' + "[" * 200_000 + "\n")
    with pytest.raises(UserError, match="line 1"):
        read_table(str(tmp_path / "a.jsonl"))


def test_texts_and_numbers_come_as_before(tmp_path: Path) -> None:
    table = pa.table({"a": [str(n) for n in range(3_000)], "b": range(3_000)})
    parquet.write_table(table, tmp_path / "a.parquet")
    read = read_table(str(tmp_path / "a.parquet"))
    assert (list(read.columns["a"]), list(read.columns["b"])) == (table["a"].to_pylist(), table["b"].to_pylist())


PROGRAM = """
import resource, sys
from reglab.core.errors import UserError
from reglab.data.table_file import read_table
import pandas, pyarrow.parquet
resource.setrlimit(resource.RLIMIT_DATA, (600_000_000, 600_000_000))
try:
    read_table(sys.argv[1])
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the memory of a process")
def test_a_limit_on_the_process_is_told_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    line = json.dumps({"a": "x" * 1_000_000}).encode() + b"\n"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(700):
            file.write(line)
    done = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=False)
    assert "take fewer rows or columns" in done.stdout, done.stderr
