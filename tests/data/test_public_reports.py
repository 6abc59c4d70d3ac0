"""Tables of public reports, that other programs read wrong in silence: the right rows and values, or one sentence.

Each case names the report from which its kind is.
"""

import gzip
import re
import unicodedata
import zipfile
from datetime import time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.table_description import describe_table
from reglab.data.table_file import read_table
from reglab.data.table_options import Reading
from reglab.data.table_typed import typed_column

ROWS = [("a", "y"), *((f"{row}.5", "yes" if row % 3 else "no") for row in range(60))]


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes, name: str = "t.csv") -> str:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(tmp_path / name)

    return write


def text(rows=ROWS, end: str = "\n", separator: str = ",") -> str:
    return "".join(separator.join(row) + end for row in rows)


def texts_of(path: str, **options: object) -> list[tuple[str, ...]]:
    table = read_table(path, Reading(**options))
    columns = [column.to_pylist() for column in table.columns.values()]
    return [tuple(table.columns), *zip(*columns, strict=True)]


def described(path: str, **options: object):
    report = describe_table({"name": "table", "path": path, "target": "y"} | options)
    assert report is not None
    return report


def refusal(path: str, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        load({"name": "table", "path": path, "target": "y", "batch_size": 8} | options)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        text(end="\r\r\n"),  # Rdatatable/data.table#7384
        text(end="\r"),  # mholt/PapaParse#43
        text(ROWS[:30], "\r") + text(ROWS[30:], "\r\n"),
        text(ROWS[:30], "\r") + text(ROWS[30:], "\n"),
        text(ROWS[:-1], "\r") + text(ROWS[-1:], "\n"),
        text(ROWS[:1], "\n") + text(ROWS[1:], "\r"),
        "# made by x\r" + text(end="\r"),
    ],
)
def test_lines_end_however_they_end(file, content):
    assert texts_of(file(content)) == ROWS


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_headers_of_files_that_were_put_together_are_no_rows(file, mark):  # manybabies/mb2-analysis#89
    parts = [mark + text([ROWS[0], *ROWS[start : start + 20]]) for start in (1, 21, 41)]
    path = file("".join(parts) + "1.5\n")
    assert texts_of(file("".join(parts))) == ROWS
    assert described(file("".join(parts))).notes == (
        "the header stands in the file 3 times: left out below the first line",
    )
    path = file("".join(parts) + "x.5,maybe\n")
    table = read_table(path, Reading())
    assert [table.place(row) for row in (0, 19, 20, 60)] == ["line 2", "line 21", "line 23", "line 64"]


def test_a_row_that_is_only_partly_the_header_stays(file):
    assert len(texts_of(file(text([*ROWS, ("a", "no")])))) == 62


@pytest.mark.parametrize(
    "content, name, words",
    [
        (gzip.compress(text().encode()), "t.csv", "compressed by gzip"),  # cytomining/pycytominer#95
        (b"PAR1....PAR1", "t.tsv", "a Parquet file"),
        (b"BZh91AY", "t.csv", "compressed by bzip2"),
    ],
)
def test_a_file_of_another_kind_is_named(file, content, name, words):
    assert f"{name} is {words}, whatever its name says: " in refusal(file(content, name))


def test_a_zip_archive_is_named(tmp_path):  # hesther/enzymemap#11
    with zipfile.ZipFile(tmp_path / "t.csv", "w") as archive:
        archive.writestr("t.csv", text())
    assert "an Excel workbook or a ZIP archive" in refusal(str(tmp_path / "t.csv"))


def test_a_pipe_is_no_file(tmp_path):  # duckdb/duckdb#2844
    import os

    os.mkfifo(tmp_path / "p.csv")
    assert "is a pipe or a device" in refusal(str(tmp_path / "p.csv"))
    (tmp_path / "f.csv").mkdir()
    assert "is a folder" in refusal(str(tmp_path / "f.csv"))


def test_two_unicode_forms_of_one_text_are_one(file):  # JuliaData/DataFrames.jl#2904
    composed, decomposed = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
    assert composed != decomposed
    rows = [
        ("who", "a", "y"),
        *((f"{(composed, decomposed)[row % 2]}{row % 10 // 2}", f"{row}", "01"[row % 2]) for row in range(60)),
    ]
    path = file(text(rows))
    names = {row[0] for row in texts_of(path)[1:]}
    assert names == {f"{composed}{number}" for number in range(5)}
    split = {"split": "grouped", "group": "who", "batch_size": 8}
    parts = load({"name": "table", "path": path, "target": "y", **split})
    assert len(parts.train) % 12 == len(parts.val) % 12 == len(parts.test) % 12 == 0  # whole groups of 12 rows
    named = file(text([("a", unicodedata.normalize("NFD", "café")), *ROWS[1:]]), "n.csv")
    assert load({"name": "table", "path": named, "target": unicodedata.normalize("NFC", "café")}).outputs == 1


def parquet_file(tmp_path, **columns: object) -> str:
    table = pa.table({"a": [row / 7 for row in range(60)], **columns, "y": [row % 2 for row in range(60)]})
    parquet.write_table(table, tmp_path / "t.parquet")
    return str(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "values, what",
    [
        (pa.array([[row, 2] for row in range(60)]), r"several values in each row \(list"),  # pola-rs/polars#2448
        (pa.array([{"k": row} for row in range(60)]), r"several values in each row \(struct"),
        (pa.array([b"x"] * 60), "bytes"),
    ],
)
def test_columns_of_several_values_are_refused_and_can_be_left_out(tmp_path, values, what):
    path = parquet_file(tmp_path, s=values)
    assert re.match(rf"the column 's' holds {what}.*'data\.drop=\[s\]'$", refusal(path))
    assert [column.name for column in described(path, drop=["s"]).columns if column.role == "input"] == ["a"]


@pytest.mark.parametrize(
    "values, right",
    [
        (
            pa.array([Decimal("1.25") * row for row in range(60)], pa.decimal128(10, 2)),
            [1.25 * row for row in range(60)],
        ),
        (pa.array([timedelta(minutes=row) for row in range(60)]), [60.0 * row for row in range(60)]),
        (pa.array([time(1, row, 2) for row in range(60)]), [3602.0 + 60 * row for row in range(60)]),
    ],
    ids=["hi-primus/optimus#267", "duration", "time"],
)
def test_decimals_durations_and_times_are_numbers(tmp_path, values, right):
    table = read_table(parquet_file(tmp_path, m=values))
    column = typed_column(table, "m")
    assert column.kind == "number"
    np.testing.assert_allclose(column.values.to_numpy(), right, rtol=0)


def test_an_index_with_a_name_is_a_column_and_one_without_is_none(tmp_path):  # apache/arrow#1302
    import pandas as pd

    frame = pd.DataFrame({"m": range(60), "a": 1.5, "y": [0, 1] * 30})
    frame.set_index("m").to_parquet(tmp_path / "named.parquet")
    frame.set_index(frame["m"].to_numpy() * 2).to_parquet(tmp_path / "nameless.parquet")
    assert sorted(read_table(str(tmp_path / "named.parquet")).columns) == ["a", "m", "y"]
    assert sorted(read_table(str(tmp_path / "nameless.parquet")).columns) == ["a", "m", "y"]


def test_two_columns_of_one_name_in_parquet_are_named(tmp_path):  # apache/arrow#37428
    table = pa.table([pa.array([1, 2]), pa.array([1, 2]), pa.array([0, 1])], names=["a", "a", "y"])
    parquet.write_table(table, tmp_path / "t.parquet")
    assert "2 columns are called 'a' (columns 1 and 2)" in refusal(str(tmp_path / "t.parquet"))


def test_huge_whole_numbers_stay_apart_as_classes(file):  # pandas-dev/pandas#48170
    huge = ["123456789012345678901234567890", "123456789012345678901234567891"]
    path = file(text([("a", "y"), *((f"{row}.5", huge[row % 2]) for row in range(60))]))
    assert load({"name": "table", "path": path, "target": "y"}).target_names == tuple(huge)


def test_digits_that_a_number_loses_are_told(file):
    path = file(text([("x", "a", "y"), *((str(2**53 + row % 2), f"{row}", "01"[row % 2]) for row in range(60))]))
    (column, *_) = described(path).columns
    assert column.suspicions[0].startswith("1 number more would differ")
    apart = described(path, types={"x": "category"}).columns[0]
    assert (apart.kind, apart.distinct) == ("category", 2)


@pytest.mark.parametrize(
    "written, right",
    [
        ("1,50,000", 150000.0),  # microsoft/Recognizers-Text#2112
        ("12,34,56,789.25", 123456789.25),
        ("5.25-", -5.25),  # rustledger/rustledger#1473
    ],
)
def test_numbers_of_other_countries_and_programs(file, written, right):
    rows = [("x", "y"), (written, "0"), *((f"{row}.5", "01"[row % 2]) for row in range(30))]
    path = file(text(rows, separator=";"))
    data = load({"name": "table", "path": path, "target": "x", "task": "regression", "standardize_target": False})
    targets = np.concatenate([part.targets.numpy().ravel() for part in (data.train, data.val, data.test)])
    assert np.isclose(targets, right).sum() == 1


def test_grades_with_a_sign_behind_them_are_no_numbers(file):
    rows = [("x", "y"), *((("1-", "2", "2+", "3")[row % 4], "01"[row % 2]) for row in range(60))]
    assert described(file(text(rows))).columns[0].kind == "category"


def test_thousands_and_millions_in_letters_are_asked(file):  # TresAmigosSD/SMV#266
    rows = [("x", "y"), *((("$1.2M", "$350K", "12")[row % 3], "01"[row % 2]) for row in range(60))]
    path = file(text(rows))
    assert "holds '$1.2M' (line 2): if that is a number in thousands" in refusal(path)
    assert described(path, types={"x": "category"}).columns[0].kind == "category"


def test_codes_that_look_like_scientific_numbers_are_told(file):  # tilo/smarter_csv#345
    rows = [("x", "a", "y"), *((f"{1 + row % 9}E{row % 5}", f"{row}", "01"[row % 2]) for row in range(60))]
    assert "'1E0' is read as 1: a code?" in described(file(text(rows))).columns[0].suspicions


def test_a_total_in_the_last_row_can_be_deleted(file):  # tidyverse/readr#88
    path = file(text([("x", "y"), *((f"{row}", "01"[row % 2]) for row in range(60)), ("Total", "1")]))
    assert "'Total' (line 62)" in refusal(path)
    assert refusal(path).endswith(
        "It is the last row: a total, or a remark, is no row of the table, and has to be deleted."
    )


@pytest.mark.parametrize("target", ["y", " y", "y "])
def test_spaces_around_a_name_need_no_quotes(file, target):  # pandas-dev/pandas#9067
    path = file("a, y\n" + text(ROWS[1:]))
    assert load({"name": "table", "path": path, "target": target}).outputs == 1


def test_a_near_name_is_told_as_it_is_typed(file):  # healthcareai-py#355
    path = file(text([("a [mm]", "y"), *ROWS[1:]]))
    assert "did you mean 'data.drop=\"a [mm]\"'?" in refusal(path, drop=["a [mn]"])


def test_another_separator_is_thought_of(file):
    assert "Is another character between its columns? Set data.separator." in refusal(file(text(separator=" ")))
