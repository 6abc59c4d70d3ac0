"""A user's table from file to tensors, against pandas and scikit-learn done by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from reglab.core.errors import UserError
from reglab.data import load

ROWS = 100


@pytest.fixture
def frame():
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "area": generator.normal(100, 20, ROWS),
            "rooms": generator.integers(1, 6, ROWS),
            "garden": generator.random(ROWS) < 0.5,
            "town": generator.choice(["Bonn", "Kiel", "Ulm"], ROWS),
            "owner": [f"p{row // 5}" for row in range(ROWS)],
            "sold": pd.date_range("2020-01-01", periods=ROWS, freq="D")[::-1].strftime("%Y-%m-%d"),
            "trust": generator.random(ROWS) + 0.5,
            "price": generator.normal(300, 50, ROWS),
        }
    )
    table.loc[[4, 9, 30], "area"] = np.nan
    table.loc[[2, 8], "town"] = None
    return table


@pytest.fixture
def houses(frame, tmp_path):
    path = tmp_path / "houses.csv"
    frame.to_csv(path, index=False)
    return {"name": "table", "path": str(path), "target": "price", "drop": ["owner", "sold", "trust"]}


def test_columns_become_inputs(houses, frame):
    data = load(houses)
    towns = ("town=missing", "town=Bonn", "town=Kiel", "town=Ulm")
    assert data.feature_names == ("area", "rooms", "garden", *towns)
    assert (data.name, data.task, data.outputs, data.target_names) == ("houses", "regression", 1, ("price",))
    train = frame.iloc[data.train.index.numpy()]
    area = train["area"].fillna(train["area"].median())
    np.testing.assert_allclose(data.train.inputs[:, 0], (area - area.mean()) / area.std(ddof=0), atol=1e-5)
    town = train["town"].fillna("missing")
    for label in ("missing", "Bonn", "Kiel", "Ulm"):
        column = data.train.inputs[:, data.feature_names.index(f"town={label}")]
        np.testing.assert_array_equal(column, (town == label).to_numpy())
    price = train["price"]
    np.testing.assert_allclose(data.train.targets, (price - price.mean()) / price.std(ddof=0), atol=1e-5)


def test_a_changed_validation_row_does_not_change_the_training_part(houses, frame, tmp_path):
    before = load(houses)
    row = int(before.val.index[0])
    frame.loc[row, ["area", "rooms", "town", "price"]] = [1e7, 99, "Aachen", -1e6]
    frame.to_csv(tmp_path / "houses.csv", index=False)
    after = load(houses)
    assert after.feature_names == before.feature_names
    for name in vars(before.train):
        assert torch.equal(getattr(before.train, name), getattr(after.train, name))
    assert not torch.equal(before.val.inputs, after.val.inputs)
    assert not after.val.inputs[0, 3:].any()  # Aachen was never seen: all zeros


def test_csv_and_parquet_give_the_same_data(houses, frame, tmp_path):
    frame.to_parquet(tmp_path / "houses.parquet")
    assert load(houses | {"path": str(tmp_path / "houses.parquet")}).digest == load(houses).digest


def test_groups_of_a_column_stay_whole_and_are_no_input(houses, frame):
    data = load(houses | {"split": "grouped", "group": "owner", "drop": ["sold", "trust"]})
    owners = [set(frame["owner"].iloc[part.index.numpy()]) for part in (data.train, data.val, data.test)]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 20
    assert not any("owner" in name for name in data.feature_names)


def test_time_in_a_text_column_is_read_as_dates(houses, frame):
    data = load(houses | {"split": "time", "time": "sold", "drop": ["owner", "trust"]})
    dates = pd.to_datetime(frame["sold"])
    train, val, test = (dates.iloc[part.index.numpy()] for part in (data.train, data.val, data.test))
    assert train.max() < val.min()
    assert val.max() < test.min()
    assert not any("sold" in name for name in data.feature_names)


def test_sample_weights_come_from_a_column(houses, frame):
    data = load(houses | {"sample_weight": "trust", "drop": ["owner", "sold"]})
    trust = frame["trust"].to_numpy()
    for part in (data.train, data.val):
        expected = trust[part.index.numpy()] / trust[data.train.index.numpy()].mean()
        np.testing.assert_allclose(part.weights, expected, rtol=1e-6)
    assert "trust" not in data.feature_names


def test_numbers_can_be_categories(houses, frame):
    data = load(houses | {"categorical": "rooms"})
    three = data.train.inputs[:, data.feature_names.index("rooms=3")]
    np.testing.assert_array_equal(three, frame["rooms"].iloc[data.train.index.numpy()] == 3)
    assert "rooms" not in data.feature_names


def test_several_targets_make_columns(houses, frame):
    frame["rent"] = frame["price"] * 2 + 1
    frame.to_csv(houses["path"], index=False)
    data = load(houses | {"target": ["price", "rent"], "standardize_target": False})
    assert (data.task, data.outputs, data.target_names) == ("regression", 2, ("price", "rent"))
    torch.testing.assert_close(data.train.targets[:, 1], data.train.targets[:, 0] * 2 + 1)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target": None}, r"data\.target is not set: name the column .* columns area, rooms, garden"),
        (
            {"target": "prise"},
            r"data\.target=prise is not a column: did you mean 'price'\? The file has the columns area",
        ),
        ({"drop": ["oner"]}, r"data\.drop=oner is not a column: did you mean 'owner'"),
        ({"categorical": ["room"]}, r"data\.categorical=room is not a column: did you mean 'rooms'"),
        ({"sample_weight": "trusty"}, r"data\.sample_weight=trusty is not a column: did you mean 'trust'"),
        ({"sample_weight": "town"}, r"data\.sample_weight=town is missing in 2 of 100 rows, first in row 3 below"),
        ({"sample_weight": "owner"}, r"data\.sample_weight=owner must hold finite numbers >= 0"),
        ({"split": "grouped", "group": "town"}, r"data\.group=town is missing in 2 of 100 rows, first in row 3"),
        ({"split": "time", "time": "owner"}, r"data\.time=owner cannot be read as dates"),
        ({"task": "regresion"}, r"data\.task=regresion: did you mean 'regression'"),
        ({"drop": ["area", "rooms", "garden", "town", "owner", "sold", "trust"]}, r"no input column is left"),
        ({"most_categories": 2}, r"'town' holds 3 different values .*data\.drop=\[town\]"),
    ],
)
def test_what_cannot_be_used_is_named(houses, changes, message):
    with pytest.raises(UserError, match=message):
        load(houses | changes)


def test_an_event_that_is_no_column_is_told_as_such(houses):
    with pytest.raises(UserError, match=r"data\.event=gardn is not a column: did you mean 'garden'"):
        load(houses | {"event": "gardn"})
    with pytest.raises(UserError, match=r"data\.target=prize is not a column: did you mean 'price'"):
        load(houses | {"target": "prize", "event": "garden"})


def test_types_drop_inputs_alone(houses):
    kept = load(houses | {"types": {"town": "drop"}})
    assert kept.feature_names == ("area", "rooms", "garden")
    with pytest.raises(UserError, match=r"data\.types drops 'price', which data\.target names: set only one"):
        load(houses | {"types": {"price": "drop"}})
    with pytest.raises(UserError, match=r"data\.types=twon is not a column: did you mean 'town'"):
        load(houses | {"types": {"twon": "drop"}})
    with pytest.raises(
        UserError, match=r"'area' cannot be read as dates \(Time data \S+ is not ISO8601 format\): write"
    ):
        load(houses | {"types": {"area": "date"}})


@pytest.mark.parametrize(
    "column, word, given",
    [("1e3", "data.target=1e3", 1000.0), ("True", "data.target=True", True), ("1_000", "data.target=1_000", 1000)],
)
def test_a_column_whose_name_hydra_reads_as_a_value_is_found(tmp_path, column, word, given):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(word).value() == given
    path = tmp_path / "t.csv"
    path.write_text("\n".join([f"a,{column}", *(f"{row},{row % 2}" for row in range(20))]) + "\n")
    assert load({"name": "table", "path": str(path), "target": given, "batch_size": 4}).feature_names == ("a",)


def test_a_column_called_null_is_told_with_its_quotes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["a,null", *(f"{row},{row % 2}" for row in range(20))]) + "\n")
    with pytest.raises(UserError, match=r"The column null: 'data\.target=\"null\"'\."):
        load({"name": "table", "path": str(path), "target": None})
