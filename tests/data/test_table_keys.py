"""Groups, times and classes are keys: whole columns of texts, never numbers by parts."""

import pandas as pd
import pytest

from reglab.core.errors import UserError
from reglab.data.table_file import read_table
from reglab.data.table_keys import group_numbers, time_numbers
from reglab.data.table_options import Reading
from reglab.data.table_roles import pd_frame, read_typed
from reglab.data.table_target import read_target


@pytest.fixture
def table(tmp_path):
    def read(cells, reading=None):
        file = tmp_path / "table.csv"
        file.write_text("k,x\n" + "".join(f"{cell},{row}\n" for row, cell in enumerate(cells)))
        return read_table(str(file), reading)

    return read


@pytest.fixture
def target(tmp_path, table):
    def read(cells, **options):
        table(cells)
        typed = read_typed(str(tmp_path / "table.csv"), Reading(**options), "auto", "k", None, None, {})
        return pd_frame(typed.targets)

    return read


@pytest.mark.parametrize(
    "keys, numbers",
    [
        (["0009", "9", "0010"], [0, 2, 1]),  # by their texts: as numbers two of them were one
        (["9", "10", "X009"], [1, 0, 2]),
        (["9", "10", "100"], [0, 1, 2]),  # by their numbers
        (["0009", "0010", "0100"], [0, 1, 2]),
        (["9007199254740993", "9007199254740992", "5"], [2, 1, 0]),
        (["True", "true", "yes"], [0, 1, 2]),
        (["True", "1", "0"], [2, 1, 0]),
        (["2.5", "10", "1e3"], [0, 1, 2]),
    ],
)
def test_each_text_is_a_group(table, keys, numbers):
    assert group_numbers(table(keys), "k", Reading()).tolist() == numbers


def test_one_number_in_two_notations_is_asked(table):
    file = table(["1", "2", "1.0"])
    with pytest.raises(
        UserError, match=r"data\.group=k holds '1' \(line 2\) and '1\.0' \(line 4\): one group or two"
    ) as error:
        group_numbers(file, "k", Reading())
    assert "'data.types={k:number}' reads one" in str(error.value)
    assert group_numbers(file, "k", Reading(types={"k": "number"})).tolist() == [0, 1, 0]
    assert len(set(group_numbers(file, "k", Reading(types={"k": "text"})))) == 3


def test_a_group_na_is_asked(table):
    with pytest.raises(UserError, match=r"data\.group=k holds 'NA' \(line 3\) in 1 of 3 rows: a value, or missing"):
        group_numbers(table(["a", "NA", "b"]), "k", Reading())
    assert len(set(group_numbers(table(["a", "NA", "b"]), "k", Reading(types={"k": "text"})))) == 3
    with pytest.raises(UserError, match=r"data\.group=k is missing in 1 of 3 rows, first in row 2 below the header"):
        group_numbers(table(["a", "", "b"]), "k", Reading())
    with pytest.raises(UserError, match=r"data\.group=k is missing in 1 of 3 rows"):
        group_numbers(table(["a", "NA", "b"]), "k", Reading(missing=["NA"]))


@pytest.mark.parametrize(
    "times, numbers",
    [
        (["10", "9", "100"], [1, 0, 2]),
        (["1.5", "1", "1.0"], [1, 0, 0]),
        (["1700000000000000001", "1700000000000000000", "3"], [2, 1, 0]),  # nanoseconds, beyond 2 ** 53
        (["2024-02-01", "2023-12-31", "2024-02-01"], [1, 0, 1]),
        (["2024-10-27T02:30:00+02:00", "2024-10-27T02:10:00+01:00", "2024-10-27T00:00:00+00:00"], [1, 2, 0]),
        (["31/12/2023", "01/02/2024", "30/11/2023"], [1, 2, 0]),
    ],
)
def test_times_are_in_order(table, times, numbers):
    assert time_numbers(table(times), "k", Reading()).tolist() == numbers


@pytest.mark.parametrize(
    "times, message",
    [
        (
            ["01/02/2024", "02/01/2024", "03/03/2024"],
            r"data\.time=k holds '01/02/2024' \(line 2\), where day and month",
        ),
        (["2024-01-01T00:00Z", "2024-01-01T00:00", "2024-01-02T00:00"], r"data\.time=k cannot be read .* offset"),
        (["2024-01-01", "soon", "2024-01-02"], r"data\.time=k cannot be read as dates"),
        (["2024-01-01", "2024-13-02", "2024-01-02"], r"data\.time=k holds '2024-13-02' \(line 3\), which is no date"),
        (["2024-01-01", "", "2024-01-02"], r"data\.time=k is missing in 1 of 3 rows, first in row 2 .*\(line 3\)"),
    ],
)
def test_times_that_cannot_be_ordered_are_refused(table, times, message):
    with pytest.raises(UserError, match=message):
        time_numbers(table(times), "k", Reading())


@pytest.mark.parametrize(
    "labels, task, names",
    [
        (["0", "1"], "binary", ("0", "1")),
        (["1.0", "0.0"], "binary", ("0.0", "1.0")),
        (["01", "1"], "binary", ("01", "1")),
        (["01", "02", "10"], "classification", ("01", "02", "10")),
        (["True", "False"], "binary", ("False", "True")),
        (["yes", "no"], "binary", ("no", "yes")),
        (["1", "2", "X"], "classification", ("1", "2", "X")),
        (["True", "yes", "1"], "classification", ("1", "True", "yes")),
        (["2024-01-01", "2024-01-02"], "binary", ("2024-01-01", "2024-01-02")),
    ],
)
def test_labels_keep_their_texts(target, labels, task, names):
    found = read_target(target(labels * 20), "auto")
    assert (found.task, found.target_names) == (task, names)
    assert [names[int(code)] for code in found.targets] == labels * 20


def test_quantities_to_predict_are_read_as_inputs_are(target):
    values = [f"{number / 8}" for number in range(40)]
    assert target([f"{value}%" for value in values])["k"].tolist() == [float(value) for value in values]
    with pytest.raises(UserError, match=r"'k' holds '1e39' \(line 42, 1 of 41 rows\), which is beyond float32"):
        target([*values, "1e39"])
    with pytest.raises(UserError, match=r"the target 'k' is missing \(NaN\) in 1 of 41 rows, first in row 41"):
        read_target(target([*values, "NA"]), "auto")


def test_keys_of_a_parquet_file_keep_their_type(tmp_path):
    frame = pd.DataFrame({"k": [10, 9, 10], "t": ["10", "9", "0009"], "d": pd.to_datetime(["2024-01-02"] * 3)})
    frame.to_parquet(tmp_path / "table.parquet")
    file = read_table(str(tmp_path / "table.parquet"))
    assert group_numbers(file, "k", Reading()).tolist() == [1, 0, 1]
    assert group_numbers(file, "t", Reading()).tolist() == [1, 2, 0]
    assert time_numbers(file, "d", Reading()).tolist() == [0, 0, 0]


def test_the_decimal_sign_of_the_inputs_tells_that_of_the_target(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("k;x\n" + "1,200;0,5\n900;7,25\n" * 9)
    assert read_typed(str(file), Reading(), "auto", "k", None, None, {}).targets[0].values.tolist()[:2] == [1.2, 900]
    file.write_text("k;x\n" + "1.200;0,5\n1.900;7,25\n" * 9)
    with pytest.raises(UserError, match=r"'k' holds '1\.200' \(line 2\), which is 1\.2 or 1200"):
        read_typed(str(file), Reading(), "auto", "k", None, None, {})
