"""The report of a table: short where nothing is wrong, and each fault that was built in is named."""

import csv
import random

import pytest

from reglab.analysis.table_report import TableReport
from reglab.data.table_description import describe_table

ROWS = 200


@pytest.fixture
def report(tmp_path):
    def describe(columns: dict[str, list[object]], **options: object) -> TableReport:
        with (tmp_path / "houses.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
        found = describe_table({"name": "table", "path": str(tmp_path / "houses.csv"), "target": "y"} | options)
        assert found is not None
        return found

    return describe


def clean(seed: int = 0) -> dict[str, list[object]]:
    rng = random.Random(seed)
    return {
        "area": [round(rng.gauss(100, 20), 6) for _ in range(ROWS)],
        "town": [rng.choice(["Bonn", "Kiel", "Ulm"]) for _ in range(ROWS)],
        "y": [rng.choice(["no", "yes"]) for _ in range(ROWS)],
    }


def test_a_clean_table_takes_two_lines(report):
    assert report(clean()).text().splitlines() == [
        "table houses: 200 rows (120 training, 40 validation, 40 test); inputs: 1 number, 1 category; "
        "target: y (binary)",
        "  nothing missing, left out or suspicious",
    ]


def test_other_data_sets_have_none():
    assert describe_table({"name": "wine"}) is None


def test_columns_have_type_examples_and_counts(report):
    table = clean()
    table["town"][:3] = ["NA", "", "Bonn"]
    found = {column.name: column for column in report(table | {"note": ["x y"] * ROWS}, drop="note").columns}
    assert (found["area"].role, found["area"].kind, found["area"].missing) == ("input", "number", 0)
    assert found["area"].examples == tuple(str(value) for value in table["area"][:3])
    assert (found["town"].kind, found["town"].distinct, found["town"].missing) == ("category", 3, 2)
    assert found["town"].notes == ("'NA' counts as missing",)
    assert (found["y"].role, found["y"].examples[0]) == ("target", table["y"][0])
    assert (found["note"].role, found["note"].kind, found["note"].examples) == ("left out", "text", ())


def test_names_of_people_do_not_go_into_the_report(report):
    table = clean()
    patients = [f"patient {row % 50}" for row in range(ROWS - 1)] + ["Patient 1"]
    names = [f"Ada {row}" for row in range(ROWS)]
    found = report(table | {"who": patients, "name": names}, split="grouped", group="who", drop=["name"])
    texts = found.text(), found.markdown()
    assert all("two values differ in case, spaces or leading zeros only" in text for text in texts)
    assert not any(secret in text.lower() for text in texts for secret in ("patient", "ada"))


@pytest.mark.parametrize(
    "name, cells, suspicion",
    [
        ("id", [f"{row:04d}" for row in range(ROWS)], "looks like a code ('0000'), read as a number"),
        ("id", list(range(1000, 1000 + ROWS)), "another value in every row: an identifier?"),
        ("big", [10**17 + row * 10**12 for row in range(ROWS)], "digits are rounded: an identifier?"),
        ("same", ["5"] * ROWS, "constant in the training part (5"),
        ("rare", [*["1.5", "2.5"] * 10, *[""] * (ROWS - 20)], "of the training part"),
        ("town2", [("Bonn", "bonn ", "Ulm")[row % 3] for row in range(ROWS)], "'Bonn' and 'bonn' are two values"),
        ("floor", [("1", "2", "attic")[row % 3] for row in range(ROWS)], "2 of 3 different values are numbers"),
    ],
)
def test_what_looks_wrong_is_named(report, name, cells, suspicion):
    found = report(clean() | {name: cells})
    (column,) = [column for column in found.columns if column.name == name]
    assert suspicion in "; ".join(column.suspicions)
    assert [line for line in found.text().splitlines() if line.startswith(f"! {name} (")]
    assert [each.name for each in found.columns if each.suspicions] == [name]


@pytest.mark.parametrize("make", [lambda y: 3.5 if y == "yes" else 1.5, lambda y: f"was {y}", lambda y: y == "yes"])
def test_a_column_that_gives_the_target_away_is_named(report, make):
    table = clean()
    found = report(table | {"leak": [make(label) for label in table["y"]]})
    assert [each.name for each in found.columns if "predicts the target by itself" in str(each.suspicions)] == ["leak"]


def test_a_line_through_a_quantity_gives_it_away(report):
    table = clean() | {"y": [random.Random(row).gauss(0, 1) for row in range(ROWS)]}
    found = report(table | {"leak": [2 * value + 1 for value in table["y"]]})
    assert [each.name for each in found.columns if each.suspicions] == ["leak"]
    assert report(table).text().endswith("nothing missing, left out or suspicious")


def test_copies_over_the_split_are_counted(report):
    table = {name: [*cells, *cells] for name, cells in clean().items()}
    found = report(table, split="random")
    assert "rows with the inputs of a training row: " in found.text()
    groups = [row % ROWS for row in range(2 * ROWS)]
    assert not report(table | {"g": groups}, split="grouped", group="g").suspicions


def test_many_remarks_fit_a_screen_and_all_stand_in_the_markdown(report):
    table = clean() | {f"c{index}": [index] * ROWS for index in range(60)}
    found = report(table)
    assert len(found.text().splitlines()) == 20
    assert found.text().endswith("and 42 more remarks, in the full report")
    assert sum(line.startswith("| c") for line in found.markdown().splitlines()) == 61  # with the head
    assert "| c7 | input | number | 7 | 1 | 0 | suspicious: constant in the training part" in found.markdown()


def test_decisions_of_the_reader_are_told(report, tmp_path):
    (tmp_path / "t.csv").write_text("sep=;\n# exported\na;y\n" + "".join(f"{row},5;{row % 2}\n" for row in range(60)))
    found = describe_table({"name": "table", "path": str(tmp_path / "t.csv"), "target": "y"})
    assert "line 2 is a comment ('# exported'): left out" in found.text()
    assert "a (number: 0,5; 1,5; 2,5): '0,5' is read as 0.5" in found.text()
