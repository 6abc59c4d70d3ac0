"""Excel, JSON lines and Parquet give the same data as the CSV of the same table."""

import csv
import datetime
import json
import sys

import openpyxl
import pandas as pd
import pytest

from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.table_file import read_table
from reglab.data.table_options import Reading

HEADER = ["area", "rooms", "garden", "town", "code", "price"]
ROWS = [
    [row / 8 if row % 9 else None, row % 5, row % 2 == 0, ("Bonn", "Kiel", None)[row % 3], f"{row % 4:03d}", row * 1.5]
    for row in range(60)
]


def options(path, **more):
    return {"name": "table", "path": str(path), "target": "price"} | more


@pytest.fixture
def csv_file(tmp_path):
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *ROWS])
    return tmp_path / "t.csv"


@pytest.fixture
def workbook(tmp_path):
    def write(*sheets):
        book = openpyxl.Workbook()
        book.remove(book.active)
        for number, rows in enumerate(sheets):
            sheet = book.create_sheet(f"s{number}")
            for row in rows:
                sheet.append(row)
        book.save(tmp_path / "t.xlsx")
        return tmp_path / "t.xlsx"

    return write


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_excel_is_the_same_table(csv_file, workbook):
    assert load(options(workbook([HEADER, *ROWS]))).digest == load(options(csv_file)).digest


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson"])
def test_json_lines_are_the_same_table(csv_file, tmp_path, suffix):
    rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
    del rows[0]["town"]
    rows[0]["town"] = ROWS[0][3]
    lines = write_lines(tmp_path / f"t{suffix}", rows)
    assert load(options(lines)).digest == load(options(csv_file)).digest


def test_parquet_is_the_same_table(csv_file, tmp_path):
    frame = pd.DataFrame(ROWS, columns=HEADER)
    frame["code"] = frame["code"].astype(int)
    frame.to_parquet(tmp_path / "t.parquet")
    assert load(options(tmp_path / "t.parquet")).digest == load(options(csv_file)).digest


def test_cells_of_a_workbook_are_texts_as_a_csv_holds_them(workbook):
    day = datetime.datetime(2024, 2, 29)
    rows = [
        ["a", "b", None],
        [1.0, day, None],
        ["0009", day.replace(hour=3), None],
        [None, None, None],
        [0.1, None, None],
    ]
    table = read_table(str(workbook([], rows, [["other"], [1]])))
    assert table.columns["a"].to_pylist() == ["1", "0009", "0.1"]
    assert table.columns["b"].to_pylist() == ["2024-02-29", "2024-02-29 03:00:00", ""]
    assert (list(table.columns), table.place(2)) == (["a", "b"], "row 5")
    assert table.notes == ("the sheet 's1' is read; for another: data.sheet=s2",)


def test_a_workbook_obeys_the_rules_of_a_csv(workbook):
    with pytest.raises(UserError, match=r"2 columns are called 'a'"):
        read_table(str(workbook([["a", "a"], [1, 2]])))
    errors = [["a", "price"], *([number / 3, number] for number in range(30)), ["#DIV/0!", 1]]
    with pytest.raises(UserError, match=r"'a' holds numbers and '#DIV/0!' \(row 32\)"):
        load(options(workbook(errors)))
    with pytest.raises(UserError, match="has no rows"):
        read_table(str(workbook([["a", "b"]])))


def test_a_broken_workbook_is_one_message(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"t\.xlsx cannot be read .* whole \.xlsx file"):
        read_table(str(tmp_path / "t.xlsx"))


def test_without_openpyxl_the_install_line_is_given(workbook, monkeypatch):
    path = workbook([HEADER, *ROWS])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"openpyxl.*is not installed: pip install 'reglab\[excel\]'"):
        read_table(str(path))


def test_keys_and_values_of_json_lines(tmp_path):
    lines = tmp_path / "t.jsonl"
    lines.write_text('{"a": "0009", "b": 1.50}\n\n{"b": 9007199254740993, "c": true}\n{"a": null, "b": 1e400}\n')
    table = read_table(str(lines))
    assert {name: column.to_pylist() for name, column in table.columns.items()} == {
        "a": ["0009", "", ""],
        "b": ["1.50", "9007199254740993", "1e400"],
        "c": ["", "True", ""],
    }
    assert table.place(1) == "line 3"


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"a": 1', r"line 2 \(.*Each line must be one object"),
        ("[1, 2]", r"line 2 \(it is no object"),
        ('{"a": [1, 2]}', r"line 2 \('a' holds several values"),
        ('{"a": 1, "a": 2}', r"line 2 \(it has one key twice"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    (tmp_path / "t.jsonl").write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(UserError, match=message):
        read_table(str(tmp_path / "t.jsonl"))


def test_types_apply_to_parquet(tmp_path):
    frame = pd.DataFrame({"d": ["2024-01-01", "2024-01-02"] * 30, "n": ["1", "2"] * 30, "price": range(60)})
    frame.to_parquet(tmp_path / "t.parquet")
    data = load(options(tmp_path / "t.parquet", types={"d": "date", "n": "number"}))
    assert data.feature_names == ("d_year", "d_month", "d_day", "d_weekday", "d_seconds", "n")
    frame["when"] = pd.to_datetime(frame["d"]).dt.tz_localize("Europe/Berlin")
    frame.to_parquet(tmp_path / "t.parquet")
    assert "when_hour" in load(options(tmp_path / "t.parquet", drop=["d", "n"])).feature_names
    with pytest.raises(UserError, match=r"'n' cannot be read as %d/%m/%Y"):
        load(options(tmp_path / "t.parquet", types={"n": "%d/%m/%Y"}))
    frame["n"] = 1e300
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"'n' holds 1e\+300 \(row 1, 60 of 60 rows\), which is beyond float32"):
        load(options(tmp_path / "t.parquet"))


def test_the_first_sheet_that_is_not_hidden_is_read_and_another_can_be_chosen(tmp_path):
    book = openpyxl.Workbook()
    book.active.title, book.active.sheet_state = "notes", "hidden"
    book.active.append(["x", "y"])
    book.active.append([7, 8])
    sheet = book.create_sheet("my data")
    sheet.append(["a", "y"])
    sheet.append([1, 2])
    book.save(tmp_path / "t.xlsx")
    path = str(tmp_path / "t.xlsx")
    assert list(read_table(path).columns) == ["a", "y"]
    assert read_table(path).notes == ("the sheet 'my data' is read; for another: data.sheet=notes",)
    assert read_table(path, Reading(sheet="notes")).columns["x"].to_pylist() == ["7"]
    with pytest.raises(UserError, match=r"data\.sheet=note: .* has no such sheet .*did you mean 'notes'"):
        read_table(path, Reading(sheet="note"))


def test_a_formula_without_its_value_is_named_by_its_cell(tmp_path):
    book = openpyxl.Workbook()
    for row in (["a", "b"], [1, 2], [3, "=A2*2"]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match=r"the cell B3 of the sheet 'Sheet' holds a formula without its value: open"):
        read_table(str(tmp_path / "t.xlsx"))


def test_a_sheet_of_a_text_file_is_refused(csv_file):
    with pytest.raises(UserError, match=r"data\.sheet=2: .* is no Excel file"):
        read_table(str(csv_file), Reading(sheet="2"))
