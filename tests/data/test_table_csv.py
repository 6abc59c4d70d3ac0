"""Delimited text in every dialect gives the texts that were written; broken text is named by its line."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reglab.core.errors import UserError
from reglab.data.table_csv import read_csv
from reglab.data.table_options import Reading

SIGNS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
HEADER = ["id", "name", "x", "y"]
ROWS = [[f"{row:04d}", ("anna", "bob", "cy")[row % 3], f"{row * 7 % 10}.{row % 9}", str(row % 2)] for row in range(60)]


def written(rows, separator=",", end="\n", quoting=csv.QUOTE_MINIMAL) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting).writerows(rows)
    return text.getvalue()


def rows_in(data: bytes, **options: object) -> list[list[str]]:
    table = read_csv("t.csv", data, Reading(**options))
    columns = [column.to_pylist() for column in table.columns.values()]
    return [list(table.columns), *map(list, zip(*columns, strict=True))]


@pytest.mark.parametrize("separator", SIGNS.values(), ids=SIGNS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_separators_and_ends_of_lines_are_recognised(separator, end, quoting):
    assert rows_in(written([HEADER, *ROWS], separator, end, quoting).encode()) == [HEADER, *ROWS]


@pytest.mark.parametrize("separator", SIGNS.values(), ids=SIGNS)
@pytest.mark.parametrize(
    "text",
    [
        "one;x\ntwo, two\tb|c",
        'he said "hi"',
        "a, b, c, d, e, f",
        "O'Neil",
        "1,5",
        "a;b;c;d",
        "{1, 2}",
        "2024-01-01 10:00:00",
    ],
)
def test_separators_inside_quotes_are_text(separator, text):
    rows = [[row[0], text, *row[2:]] for row in ROWS]
    assert rows_in(written([HEADER, *rows], separator).encode()) == [HEADER, *rows]


def test_decimal_commas_do_not_hide_a_semicolon():
    rows = [["x", "z", "y"], *([f"{row},5", f"0,{row}", str(row % 2)] for row in range(50))]
    assert rows_in(written(rows, ";").encode()) == rows


@pytest.mark.parametrize(
    "preface", ["sep=;\n", '"sep=;"\n', "# a comment\n", "# one\n# two; three\n", "\n\n", "sep=;\r\n# exported\r\n"]
)
def test_lines_above_the_header_are_left_out(preface):
    data = preface.encode() + written([HEADER, *ROWS], ";").encode()
    assert rows_in(data) == [HEADER, *ROWS]
    assert read_csv("t.csv", data, Reading()).place(3) == f"line {preface.count(chr(10)) + 5}"


def test_a_header_may_begin_with_a_hash():
    rows = [["#id", "x"], ["1", "2"], ["3", "4"]]
    assert rows_in(written(rows).encode()) == rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_mark_are_recognised(encoding):
    rows = [["ärea", "x"], *([f"café {row} ✓", "1"] for row in range(9))]
    assert rows_in(written(rows).encode(encoding)) == rows


def test_another_encoding_is_asked_for():
    rows = [["area", "x"], ["a", "1"], ["café", "2"]]
    with pytest.raises(UserError, match=r"line 3 is no text in UTF-8.*it says 'café': set data\.encoding=cp1252"):
        rows_in(written(rows).encode("cp1252"))
    assert rows_in(written(rows).encode("cp1252"), encoding="cp1252") == rows
    assert rows_in(written(rows).encode("utf-16-le"), encoding="utf-16-le") == rows
    with pytest.raises(UserError, match=r"zero bytes.*data\.encoding=utf-16-le"):
        rows_in("a,b\n1,2\n".encode("utf-16-le"))
    with pytest.raises(UserError, match=r"cannot be read as utf-16"):
        rows_in(b"\xff\xfea", encoding="utf-16")


def test_a_separator_at_the_end_of_lines_is_no_column():
    ended = "".join(",".join(row) + ",\n" for row in ROWS)
    assert rows_in(f"{','.join(HEADER)}\n{ended}".encode()) == [HEADER, *ROWS]


def test_names_of_rows_without_a_header_are_left_out():
    for names in (map(str, range(1, 61)), map(str, range(60)), (f"car {row}" for row in range(60))):
        rows = "".join(f"{name},{','.join(row)}\n" for name, row in zip(names, ROWS, strict=True))
        assert rows_in(f"{','.join(HEADER)}\n{rows}".encode()) == [HEADER, *ROWS]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda rows: rows[30].append("more"), r"line 31 has 5 fields .*but the header names 4 \(id, name, x, y\)"),
        (lambda rows: rows[45].pop(), r"line 46 has 3 fields"),
        (lambda rows: rows[-1].clear() or rows[-1].append("005"), r"line 61 has 1 field \('005'\)"),
        (lambda rows: rows.insert(20, ["# a comment"]), r"line 21 has 1 field \('# a comment'\)"),
        (lambda rows: rows.insert(0, ["Report of the lab"]), r"line 2 has 4 fields .* names 1 \(Report of the lab\)"),
        (lambda rows: rows[0].__setitem__(2, "id"), r"2 columns are called 'id' \(columns 1 and 3\)"),
        (lambda rows: rows.__delitem__(slice(1, None)), r"has no rows"),
    ],
)
def test_a_broken_file_is_named_by_its_line(change, message):
    rows = [list(row) for row in [HEADER, *ROWS]]
    change(rows)
    with pytest.raises(UserError, match=message):
        rows_in(written(rows).encode())


def test_a_line_is_counted_in_the_file_not_in_the_rows():
    rows = [["note", "x"], *([f"one\ntwo {row}", "1"] for row in range(5)), ["short"]]
    with pytest.raises(UserError, match=r"line 12 has 1 field"):
        rows_in(written(rows).encode())


def test_a_quote_that_is_not_closed_is_named():
    with pytest.raises(UserError, match=r"line 3 has a quote that is not closed"):
        rows_in(written([HEADER, *ROWS]).replace("bob", '"bob', 1).encode())


def test_numbers_as_a_header_are_asked_about():
    with pytest.raises(UserError, match=r"line 1 holds only numbers \(5\.1, 3\.5, 0\): is it the header or data"):
        rows_in(b"5.1,3.5,0\n4.9,3.0,1\n")
    assert rows_in(b"5.1,3.5,0\n4.9,3.0,1\n", header=False) == [
        ["0", "1", "2"],
        ["5.1", "3.5", "0"],
        ["4.9", "3.0", "1"],
    ]
    assert rows_in(b"5.1,3.5,0\n4.9,3.0,1\n", header=True) == [["5.1", "3.5", "0"], ["4.9", "3.0", "1"]]
    assert rows_in(b"400,402,404\n4.9,3.0,1\n")[0] == ["400", "402", "404"]


def test_the_separator_can_be_set():
    assert rows_in(b"a b\n1 2\n3 4\n", separator="space") == [["a", "b"], ["1", "2"], ["3", "4"]]
    assert rows_in(b"a:b\n1:2\n3:4\n", separator=":") == [["a", "b"], ["1", "2"], ["3", "4"]]
    with pytest.raises(UserError, match=r"data\.separator='semi' must be one character or one of comma, semicolon"):
        Reading(separator="semi")


def test_one_column_ten_thousand_columns_and_long_fields():
    assert rows_in(b"y\n1\n2\n") == [["y"], ["1"], ["2"]]
    wide = [[f"c{index}" for index in range(10_000)], *([str(index % 7) for index in range(10_000)] for _ in range(5))]
    assert rows_in(written(wide).encode()) == wide
    long = [["text", "y"], *(["word, " * 1_000_000, str(row)] for row in range(2))]  # longer than a block of Arrow
    assert rows_in(written(long).encode()) == long


fields = st.text(st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    width=st.integers(2, 5),
    height=st.integers(1, 8),
    separator=st.sampled_from(sorted(SIGNS.items())),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_was_written_is_read(data, width, height, separator, end, encoding):
    rows = data.draw(st.lists(st.lists(fields, min_size=width, max_size=width), min_size=height, max_size=height))
    header = [f"column {index}" for index in range(width)]
    name, sign = separator
    text = written([header, *rows], sign, end, csv.QUOTE_ALL)
    assert rows_in(text.encode(encoding), separator=name) == [header, *rows]


numbers = st.decimals(-1000, 1000, places=2).map(str)
words = st.text("abcxyz ", min_size=1, max_size=6).map(str.strip).filter(bool)
kinds = st.sampled_from(
    [
        numbers,
        numbers.map(lambda text: text.replace(".", ",")),
        st.integers(0, 10**6).map(str),
        words,
        st.text('ab,;|\t"\n 1.', max_size=8),
        st.sampled_from(["1;2", "a|b", "x,y, z", "2024-01-02 10:00", "12,5"]),
        st.just(""),
    ]
)


@st.composite
def tables(draw):
    """Return a header and rows, whose columns are each of one kind."""
    columns = draw(st.lists(kinds, min_size=2, max_size=6))
    header = draw(st.lists(words, min_size=len(columns), max_size=len(columns), unique=True))
    return [header, *([draw(column) for column in columns] for _ in range(draw(st.integers(1, 12))))]


@given(
    rows=tables(),
    separator=st.sampled_from(list(SIGNS.values())),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_without_options_a_table_is_read_as_it_was_written_or_refused(rows, separator, quoting):
    try:
        found = rows_in(written(rows, separator, "\n", quoting).encode())
    except UserError:
        return
    assert found == rows
