"""The full series read back from a journal are its rows, whatever the journal went through."""

import math
import random

import pyarrow.parquet as pq
import pytest

from reglab.tracking.full_series import complete, read_series
from reglab.tracking.journal import Journal
from reglab.tracking.thinning import Thinning

ODD = [math.nan, math.inf, -math.inf, -0.0, 1e-310, 1.7e308, 1 / 3, 5e-324, 12345678901234567.0]


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.jsonl")


def fill(journal):
    """Rows of every kind, late ones too, among tags, zeros and a torn line."""
    draw = random.Random(0)
    journal.record(tags={"a": 'b"metrics":{'})
    for step in [*range(300), 1_000, 901, 950]:
        value = draw.choice(ODD) if step % 50 == 7 else draw.gauss(0, 1)
        journal.append({"val/loss": value, 'odd "%" NaN\n': float(step)}, step)
        if step % 3 == 0:
            journal.append({"weights/a/l1": draw.random()}, step)
    with journal.path.open("ab") as file:
        file.write(b'{"time":5,"step":4,"metrics":{"val/loss":0.\n' + b"\0" * 100 + b"\n")
    journal.append({"val/loss": 0.25}, 2_000)
    journal.record(status="KILLED", last=[["val/loss", math.nan, 5, 7]])


@pytest.mark.parametrize("block", [1 << 25, 700])
def test_the_series_are_the_journals_rows(journal, block):
    fill(journal)
    expected = sorted((row.key, row.step, row.timestamp, repr(row.value)) for row in journal.rows())
    curves = read_series(journal.path, block)
    found = [
        (key, step, time, repr(value))
        for key in sorted(curves)
        for step, value, time in zip(*(column.tolist() for column in curves[key]), strict=True)
    ]
    assert found == expected


def test_the_artifact_replaces_an_earlier_one_and_says_what_the_store_has(journal, tmp_path):
    fill(journal)
    (tmp_path / "metrics.parquet").write_text("earlier")
    (tmp_path / "link").hardlink_to(tmp_path / "metrics.parquet")  # as a store has it
    said, late = complete(journal.path, Thinning(stride=10, last=2_000, minor=3), tmp_path / "metrics.parquet")
    assert said == "33 of 304; all in metrics.parquet"
    assert (tmp_path / "link").read_text() == "earlier"
    assert {(row.key, row.step) for row in late} == {("weights/a/l1", 297)}
    table = pq.read_table(tmp_path / "metrics.parquet")
    assert table.column_names == ["key", "step", "value", "timestamp"]
    rows = list(zip(table["key"].to_pylist(), table["step"].to_pylist(), strict=True))
    assert rows == sorted((row.key, row.step) for row in journal.rows())


def test_where_nothing_was_left_out_there_is_no_artifact(journal, tmp_path):
    journal.append({"val/loss": 1.0}, 10)
    journal.append({"test/loss": 1.0}, 7)
    assert complete(journal.path, Thinning(10, 40), tmp_path / "metrics.parquet") is None
    assert complete(tmp_path / "journal.jsonl", Thinning(), tmp_path / "metrics.parquet") is None
    assert not (tmp_path / "metrics.parquet").exists()
