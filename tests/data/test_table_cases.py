"""Files that were read wrong before, each with the value that its making gives."""

import csv
import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from reglab.config.fingerprint import computed_part, fingerprint
from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.table_file import read_table

CASES = Path(__file__).parent / "cases"


def options(name: str, **more: object) -> dict[str, object]:
    return {"name": "table", "path": str(CASES / f"{name}.csv")} | more


def rows_of(name: str, separator: str) -> list[list[str]]:
    with (CASES / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=separator))


@pytest.mark.parametrize("last", ["X009", "0009"])
def test_no_patient_stands_in_two_parts(tmp_path, last):
    rng = random.Random(0)
    patients = [f"{row % 199 + 1:04d}" for row in range(2000)]
    patients[-1] = last
    file = tmp_path / "patients.csv"
    rows = "\n".join(f"{patient},{rng.random()},{rng.randrange(2)}" for patient in patients)
    file.write_text(f"patient,a,y\n{rows}\n")
    data = load({"name": "table", "path": str(file), "target": "y", "split": "grouped", "group": "patient"})
    parts = [{patients[row] for row in part.index.tolist()} for part in (data.train, data.val, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(set(patients))


def test_a_field_too_many_is_refused_with_the_line_and_both_readings():
    with pytest.raises(UserError, match=r"line 2 has 4 fields .* names 3 \(y, a, b\).*'0' is y if .*'50' is if the"):
        load(options("extra_field", target="y"))


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(UserError, match=r"2 columns are called 'y' \(columns 1 and 4\)"):
        load(options("dup_target", target="y"))


def test_decimal_commas_are_the_same_numbers_as_decimal_dots():
    comma, dot = load(options("comma400", target="ja")), load(options("dot400", target="ja"))
    assert comma.digest == dot.digest
    expected = np.array([row[:2] for row in rows_of("dot400", ";")[1:]], dtype=np.float64)[comma.train.index]
    scaled = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    np.testing.assert_allclose(comma.train.inputs, scaled, atol=1e-5)


def test_a_question_mark_among_numbers_is_named_and_can_mean_missing():
    with pytest.raises(UserError, match=r"'laenge' holds numbers and '\?' \(line 9\), in 1 of 400 rows") as error:
        load(options("q400", target="ja"))
    assert """'data.missing=["?"]'""" in str(error.value)
    data = load(options("q400", target="ja", missing=["?"]))
    assert (data.feature_names, data.target_names) == (("laenge", "breite"), ("0", "1"))
    assert len(load(options("q400", target="ja", types={"laenge": "category"})).feature_names) > 80


def test_columns_can_be_called_by_numbers():
    assert load(options("number_header", target=2)).feature_names == ("0", "1")
    assert load(options("number_header", target=0)).feature_names == ("1", "2")
    assert load(options("number_header", target=[2], drop=1)).feature_names == ("0",)


@pytest.mark.parametrize("target", ["y[0]", "y (%)/é"])
def test_columns_have_any_name(target):
    data = load(options("two_targets", target=target, standardize_target=False))
    rows = rows_of("two_targets", ",")
    expected = [float(row[rows[0].index(target)]) for row in rows[1:]]
    torch.testing.assert_close(data.test.targets, torch.tensor(expected)[data.test.index])


def test_a_weight_for_a_class_of_any_name():
    data = load(options("inc", target="y", class_weight={">50K": 3}))
    heavy, light = (data.train.weights[data.train.targets == label].unique() for label in (1, 0))
    assert data.target_names == ("<=50K", ">50K")
    torch.testing.assert_close(heavy, 3 * light)


def test_the_advice_for_an_empty_column_can_be_typed():
    with pytest.raises(UserError) as error:
        load(options("emptybr", target="y"))
    assert str(error.value).endswith("""'data.drop=["a [mm]"]'""")
    assert load(options("emptybr", target="y", drop=["a [mm]"])).feature_names == ("b, c",)


def test_line_ends_in_quotes_do_not_hide_the_separator():
    table = read_table(str(CASES / "quoted_newline_semicolon.csv"))
    columns = [column.to_pylist() for column in table.columns.values()]
    assert [list(row) for row in zip(*columns, strict=True)] == rows_of("quoted_newline_semicolon", ";")[1:]
    assert table.place(2) == "line 6"


def test_the_class_na_is_asked_for_and_kept():
    with pytest.raises(UserError, match=r"data\.target=continent holds 'NA' \(line 3\) in 17 of 60 rows") as error:
        load(options("na_label", target="continent"))
    assert "data.types={continent:text}" in str(error.value)
    labels = [row[2] for row in rows_of("na_label", ",")[1:]]
    for decision in ({"types": {"continent": "text"}}, {"missing": []}):
        data = load(options("na_label", target="continent") | decision)
        assert data.target_names == tuple(sorted(set(labels)))
        assert [data.target_names[code] for code in data.test.targets] == [labels[row] for row in data.test.index]


def test_numbers_beyond_float32_are_named():
    with pytest.raises(UserError, match=r"'b' holds '1\.7976931348623157e308' \(line 7, 2 of 60 rows\), .*float32"):
        load(options("sentinel", target="y"))
    data = load(options("sentinel", target="y", missing=["1.7976931348623157e308"]))
    column = [row[1] for row in rows_of("sentinel", ",")[1:]]
    known = np.array([float(text) if "e308" not in text else np.nan for text in column])[data.train.index]
    filled = np.where(np.isnan(known), np.nanmedian(known), known)
    np.testing.assert_allclose(data.train.inputs[:, 1], (filled - filled.mean()) / filled.std(), atol=1e-5)


def test_a_clean_csv_is_what_it_was(tmp_path):
    """The digest is that of the reader before (pandas.read_csv with defaults), so that no finished sweep runs again."""
    rng = random.Random(4)
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    write.writerow(["size", "rooms", "garden", "town", "zip", "owner", "price"])
    for row in range(300):
        size = "" if row % 50 == 7 else repr(rng.gauss(100, 20))
        town = "NA" if row % 60 == 3 else rng.choice(["Bonn", "Kiel", "Ulm; alt"])
        garden = rng.random() < 0.5
        write.writerow(
            [size, rng.randrange(1, 6), garden, town, f"{row * 37 % 99999:05d}", row // 5, rng.random() * 9e5]
        )
    file = tmp_path / "houses.csv"
    file.write_text(text.getvalue())
    data = load({"name": "table", "path": str(file), "target": "price", "split": "grouped", "group": "owner"})
    assert data.feature_names == (
        "size",
        "rooms",
        "garden",
        "zip",
        "town=missing",
        "town=Bonn",
        "town=Kiel",
        "town=Ulm; alt",
    )
    assert data.digest == "58168272c2cb6cbc9ff52b682ec3537d89116332bb2381d2e2888d7f05fddc20"


@pytest.mark.parametrize("key", ["separator", "decimal", "missing", "encoding", "header", "sheet", "types"])
def test_an_option_of_reading_that_is_not_set_leaves_the_fingerprint(key):
    config = {"data": {"name": "table", "path": "a.csv", "target": "y"}, "model": {}}
    unset = {**config, "data": config["data"] | {key: None}}
    chosen = {**config, "data": config["data"] | {key: "x"}}
    assert fingerprint(unset, "digest") == fingerprint(config, "digest") != fingerprint(chosen, "digest")
    assert computed_part(unset) == computed_part(config)
