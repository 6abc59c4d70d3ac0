"""The type of a whole column, from texts whose numbers and dates are known; what is open is asked."""

import csv

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reglab.core.errors import UserError
from reglab.data.table_column import Column, Texts, comma_numbers, comma_spelling
from reglab.data.table_file import read_table
from reglab.data.table_numbers import spelling_of
from reglab.data.table_options import Reading
from reglab.data.table_raw import RawTable
from reglab.data.table_types import type_inputs

NUMBERS = [f"{number}.5" for number in range(30)]
DAYS = [f"2024-01-{day:02d}" for day in range(1, 31)]


@pytest.fixture
def column(tmp_path):
    def read(cells, separator=",", categorical=(), **options) -> Column:
        file = tmp_path / "table.csv"
        with file.open("w", newline="", encoding="utf-8") as text:
            csv.writer(text, delimiter=separator).writerows([["v", "k"], *([cell, "q"] for cell in cells)])
        reading = Reading(**options)
        return type_inputs(read_table(str(file), reading), ["v"], list(categorical), reading)["v"]

    return read


@pytest.mark.parametrize(
    "texts, numbers, separator, options",
    [
        ([" 5", "6 ", "-7"], [5, 6, -7], ",", {}),
        (["1e5", "2E-3", ".5", "5.", "+1"], [1e5, 0.002, 0.5, 5, 1], ",", {}),
        (["NaN", "", "None", "2"], [np.nan, np.nan, np.nan, 2], ",", {}),
        (["8,0", "0,25", "-1"], [8, 0.25, -1], ";", {}),
        (["8,0", "0,25", "-1"], [8, 0.25, -1], "\t", {}),
        (["8,0", "0,25", "-1"], [8, 0.25, -1], ",", {"decimal": "comma"}),
        (["1,200", "900"], [1200, 900], ",", {"decimal": "dot"}),
        (["1,200", "900"], [1.2, 900], ",", {"decimal": "comma"}),
        (["1.200", "900"], [1200, 900], ",", {"decimal": ","}),
        (["1.200", "900"], [1.2, 900], ",", {}),
        (["1,200", "1,200,300"], [1200, 1200300], ",", {}),
        (["1,200", "0.5"], [1200, 0.5], ",", {}),
        (["1,200.50", "3"], [1200.5, 3], ",", {}),
        (["1.200,50", "3"], [1200.5, 3], ";", {}),
        (["1.200.000", "3"], [1200000, 3], ",", {}),
        (["1 200", "1\u00a0200,5", "3"], [1200, 1200.5, 3], ";", {}),
        (["1'200", "3"], [1200, 3], ",", {}),
        (["$1,200", "$3", "-$5", "($7)"], [1200, 3, -5, -7], ",", {}),
        (["12 €", "3,5 €"], [12, 3.5], ";", {}),
        (["12%", "3.5 %"], [12, 3.5], ",", {}),
        (["\u22123", "4"], [-3, 4], ",", {}),
        (["-999", "2.5"], [np.nan, 2.5], ",", {"missing": -999}),
        (["?", "2.5", "NA"], [np.nan, 2.5, np.nan], ",", {"missing": ["?", "NA"]}),
        (["007", "9"], [7, 9], ",", {}),
    ],
)
def test_numbers_are_read_as_they_are_written(column, texts, numbers, separator, options):
    found = column(texts * 9, separator, **options)
    assert found.kind == "number"
    np.testing.assert_array_equal(found.values, np.tile(numbers, 9))


@pytest.mark.parametrize(
    "texts, message, options",
    [
        (["900", "1,200"], r"'1,200' \(line 3\), which is 1200 or 1\.2: set data\.decimal=dot \(1200\) or .*comma", {}),
        (["900", "€1.200"], r"'€1\.200' \(line 3\), which is 1\.2 or 1200", {}),
        (["1", "1,5"], r"'1,5' \(line 3\): the number 1\.5 or a text\? Set data\.decimal=comma", {}),
        (["1.5", "1,5"], r"'1\.5' \(line 2\) and '1,5' \(line 3\): one has a decimal dot", {}),
        (["12%", "0.12"], r"different units: '12%' \(line 2\) and '0\.12' \(line 3\)", {}),
        (["$5", "€5"], r"different units: '\$5' \(line 2\) and '€5' \(line 3\)", {}),
        ([*NUMBERS, "?"], r"holds numbers and '\?' \(line 32\), in 9 of 279 rows", {}),
        ([*NUMBERS, "n.a."], r"holds numbers and 'n\.a\.' \(line 32\)", {}),
        ([*NUMBERS, "#DIV/0!"], r"holds numbers and '#DIV/0!' \(line 32\)", {}),
        (["1", "2", "-"], r"holds numbers and '-' \(line 4\)", {}),
        ([*map(str, range(60)), "abc"], r"holds numbers and 'abc' \(line 62\)", {}),
        ([*NUMBERS, "?", "NA"], r"data\.missing=\[NA,\"\?\"\]", {}),
        (["1", "inf"], r"'inf' \(line 3, 9 of 18 rows\), which is infinite.*data\.missing=\[\"inf\"\]", {}),
        (["1", "1e400"], r"'1e400' \(line 3, 9 of 18 rows\), which is beyond float32", {}),
        (["1", "-4e38"], r"'-4e38' \(line 3, 9 of 18 rows\), which is beyond float32", {}),
        (["a", "1"], r"is to be numbers .* but holds 'a' \(line 2\)", {"types": {"v": "number"}}),
        (["1.5", "1"], r"'1\.5' \(line 2\), which is no number with a decimal comma", {"decimal": "comma"}),
        ([*DAYS, "?"], r"holds dates and '\?' \(line 32\)", {}),
        ([*DAYS, "2024-02-30"], r"'2024-02-30' \(line 32\), which is no date.*data\.missing=\[\"2024-02-30\"\]", {}),
        (
            ["01/02/2024", "03/04/2024"],
            r"'01/02/2024' \(line 2\), where day and month are open.*%d/%m/%Y.*%m/%d/%Y",
            {},
        ),
        (["2024-10-27T02:30+02:00", "2024-10-27"], r"has an offset from UTC and '2024-10-27' has none", {}),
    ],
)
def test_what_is_open_is_asked_with_line_and_both_readings(column, texts, message, options):
    with pytest.raises(UserError, match=message):
        column(texts * 9, **options)


@pytest.mark.parametrize(
    "texts, dates, options",
    [
        (["2024-01-31", "2024-12-01"], ["2024-01-31", "2024-12-01"], {}),
        (["2024-01-31 10:30", "2024-12-01T00:00:01"], ["2024-01-31 10:30", "2024-12-01 00:00:01"], {}),
        (  # the later one by the wall is the earlier one: the clocks went back between them
            ["2024-10-27T02:30:00+02:00", "2024-10-27T02:10:00+01:00"],
            ["2024-10-27 00:30", "2024-10-27 01:10"],
            {},
        ),
        (["2024-01-31T10:00Z", ""], ["2024-01-31 10:00", None], {}),
        (["31/12/2024", "01/02/2024"], ["2024-12-31", "2024-02-01"], {}),
        (["12/31/2024", "01/02/2024"], ["2024-12-31", "2024-01-02"], {}),
        (["31.12.2024", "1.2.2024"], ["2024-12-31", "2024-02-01"], {}),
        (["01/02/2024", "03/04/2024"], ["2024-02-01", "2024-04-03"], {"types": {"v": "%d/%m/%Y"}}),
        (["01/02/2024", "03/04/2024"], ["2024-01-02", "2024-03-04"], {"types": {"v": "%m/%d/%Y"}}),
        (["20240131", "20241201"], ["2024-01-31", "2024-12-01"], {"types": {"v": "date"}}),
    ],
)
def test_dates_are_recognised(column, texts, dates, options):
    found = column(texts * 9, **options)
    assert found.kind == "date"
    assert found.values.tolist()[:2] == pd.to_datetime(pd.Series(dates), format="ISO8601").tolist()


@pytest.mark.parametrize(
    "texts, kept, options",
    [
        (["1", "2", "4A"], ["1", "2", "4A"], {}),
        (["1", "2", "X"], ["1", "2", "X"], {}),
        (["True", "yes", "1", "1.0"], ["True", "yes", "1", "1.0"], {}),
        (["True", "", "False"], ["True", None, "False"], {}),
        (["a", "NA", "None", ""], ["a", None, None, None], {}),
        (["a", "NA", "None", ""], ["a", "NA", "None", None], {"missing": []}),
        (["a", "NA", "None", ""], ["a", "NA", "None", None], {"types": {"v": "text"}}),
        (["a", "NA", "None", ""], ["a", None, None, None], {"types": {"v": "category"}}),
        (["0009", "9"], ["0009", "9"], {"types": {"v": "category"}}),
        (["2024-01-31", "2024-12-01"], ["2024-01-31", "2024-12-01"], {"types": {"v": "category"}}),
        ([*NUMBERS, "?"], [*NUMBERS, "?"], {"categorical": ["v"]}),
        (["0009", "9"], ["0009", "9"], {"categorical": ["v"]}),
        (["12:30", "13:40"], ["12:30", "13:40"], {}),
        ([" a ", "a"], [" a ", "a"], {}),
    ],
)
def test_everything_else_is_a_category(column, texts, kept, options):
    found = column(texts * 9, **options)
    assert found.kind == "category"
    assert found.values.astype(object).where(found.values.notna(), None).tolist()[: len(kept)] == kept


def test_truth_values_are_recognised(column):
    found = column(["true", "FALSE"] * 9)
    assert (found.kind, found.values.tolist()[:2]) == ("truth", [True, False])


def test_the_file_decides_about_a_column_that_does_not(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("a;b\n" + "1,200;0,5\n900;7,25\n" * 9)
    columns = type_inputs(read_table(str(file)), ["a", "b"], [], Reading())
    assert columns["a"].values.tolist()[:2] == [1.2, 900]
    file.write_text("a;b\n" + "1.200;0,5\n1.900;7,25\n" * 9)
    with pytest.raises(UserError, match=r"'a' holds '1\.200' \(line 2\), which is 1\.2 or 1200"):
        type_inputs(read_table(str(file)), ["a", "b"], [], Reading())


def test_what_was_made_of_texts_is_noted(column):
    assert column(["$1,200", "$3"] * 9).notes == ("'$1,200' is read as 1200",)
    assert column(["a", "NA"] * 9).notes == ("'NA' counts as missing",)


NUMBER = st.from_regex(r"[+-]?(\d{1,5}(,\d{0,5})?|,\d{1,5})([eE]-?\d)?", fullmatch=True).filter(str.isascii)


@given(st.lists(NUMBER, min_size=1, max_size=6))
def test_commas_are_understood_alike_with_and_without_a_look_at_each_text(cells):
    cells = [*cells, "1,5"]
    table = RawTable({"v": pa.chunked_array([cells])}, len(cells), str)
    quick, slow = comma_spelling(Texts("v", table, frozenset({""}))), spelling_of(cells)
    assert quick is not None
    assert (bool(quick.comma), bool(quick.either)) == (bool(slow.comma), bool(slow.either))
    assert not slow.strays
    read = comma_numbers(Texts("v", table, frozenset({""})))
    np.testing.assert_array_equal(read, [float(cell.replace(",", ".")) for cell in cells])
