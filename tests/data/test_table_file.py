"""Files: found, read, or refused with the next thing to do."""

import gzip

import pandas as pd
import pytest

from reglab.core.errors import UserError
from reglab.data.table_file import read_table

FRAME = pd.DataFrame({"a": [1, 2], "b, c": ["x", "y;z"]})
TEXTS = {"a": ["1", "2"], "b, c": ["x", "y;z"]}


def texts(path) -> dict[str, list[str]]:
    return {name: column.to_pylist() for name, column in read_table(str(path)).columns.items()}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".TXT"])
def test_separators_are_recognised(tmp_path, separator, suffix):
    path = tmp_path / f"table{suffix}"
    FRAME.to_csv(path, sep=separator, index=False)
    assert texts(path) == TEXTS
    compressed = path.with_name(f"{path.name}.gz")
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    assert texts(compressed) == TEXTS


def test_row_numbers_that_pandas_wrote_are_dropped_but_other_nameless_columns_kept(tmp_path):
    path = tmp_path / "table.csv"
    FRAME.to_csv(path)
    assert list(read_table(str(path)).columns) == ["a", "b, c"]
    path.write_text(",a\n7,1\n9,2\n")
    assert list(read_table(str(path)).columns) == ["Unnamed: 0", "a"]


def test_a_missing_file_names_the_nearest_in_the_folder(tmp_path):
    FRAME.to_csv(tmp_path / "houses.csv")
    with pytest.raises(UserError, match=r"house\.csv: no such file in .*did you mean 'houses\.csv'"):
        read_table(str(tmp_path / "house.csv"))


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        read_table(str(tmp_path / "nowhere" / "table.csv"))


def test_a_folder_or_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "table.xls").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"ends in \.xls: reglab reads \.csv, .*convert"):
        read_table(str(tmp_path / "table.xls"))
    with pytest.raises(UserError, match="is a folder: give a file"):
        read_table(str(tmp_path))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("broken.parquet", b"not a parquet file", r"Is it a whole \.parquet file"),
        ("broken.csv.gz", b"not compressed", r"Is it a whole \.csv file"),
        ("empty.csv", b"", "the file is empty"),
        ("blank.csv", b" \n\n", "the file is empty"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", r"line 3 has 3 fields \('1', '2', '3'\)"),
        ("short.csv", b"a,b\n1,2\n1\n", r"line 3 has 1 field \('1'\), but the header names 2 \(a, b\)"),
        ("binary.csv", b"a,b\n\xff\xfe\x00,1\n", "line 2 is no text in UTF-8"),
        ("zeros.csv", b"a,b\n1,\x00\n", "zero bytes"),
    ],
)
def test_an_unreadable_file_is_one_message(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}.*{message}"):
        read_table(str(tmp_path / name))


def test_a_header_alone_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="has no rows"):
        read_table(str(tmp_path / "table.csv"))
