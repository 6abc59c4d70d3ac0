"""``reglab rank-measures``: what it prints, writes and refuses."""

import csv
from types import SimpleNamespace

import pytest

import reglab.tracking.mlflow.read as read
from reglab.cli.command import main
from reglab.core.errors import UserError


def record(number, strength, seed, data="wine"):
    gap = strength + 0.01 * seed
    metrics = {"gap/loss": gap, "weights/l2": -gap, "own/val": gap, "norms/path": (7 * number) % 5 + 0.5}
    return SimpleNamespace(
        run_id=f"{data}{number}",
        status="FINISHED",
        params={"regularizer.l2.strength": repr(strength), "seed": str(seed), "data.name": data},
        tags={"reglab.regularizer": "l2", "reglab.seed": str(seed), "reglab.job": str(number)},
        metrics={f"final/{name}": value for name, value in metrics.items()},
    )


RUNS = {
    "first": [record(number, 0.1 * (number // 3), number % 3) for number in range(18)],
    "other": [record(number, 0.1, number, "digits") for number in range(6)],
    "single": [],
}


@pytest.fixture(autouse=True)
def store(monkeypatch, tmp_path):
    def find_run(uri, name):
        if name not in RUNS:
            raise UserError(f"no run {name!r}")
        return SimpleNamespace(uri=uri, run_id=name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(read, "find_run", find_run)
    monkeypatch.setattr(read, "sweep_runs", lambda uri, name: RUNS[name])


def test_the_table_and_the_file_have_the_ranking(capsys, tmp_path):
    assert main(["rank-measures", "first", "first", "--out", "ranking.csv"]) == 0
    told = capsys.readouterr().out
    assert "18 runs, 6 settings" in told
    assert "Left out, of validation or test rows by their names: own/val." in told
    rows = list(csv.DictReader((tmp_path / "ranking.csv").read_text().splitlines()))
    assert [row["measure"] for row in rows] == ["weights/l2", "norms/path"]
    assert float(rows[0]["tau"]) == -1.0
    assert float(rows[0]["granulated/regularizer.l2.strength"]) == -1.0
    assert float(rows[0]["worst_sign_error"]) == 0.0
    for row in rows:
        assert row["measure"] in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "no run 'nothing'"),
        (["single"], "single has no runs: give a sweep"),
        (["first", "other"], "several data sets (wine, digits), whose gaps do not compare"),
        (["first", "--gap", "gap/los"], "did you mean 'gap/loss'"),
        (["first", "--out", "ranking.txt"], "let its name end in .csv"),
        (["first", "--out", "nowhere/ranking.csv"], "there is no folder nowhere"),
    ],
)
def test_wrong_use_is_one_message(words, told, capsys):
    assert main(["rank-measures", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_is_there_is_kept(capsys, tmp_path):
    (tmp_path / "ranking.csv").write_text("mine")
    assert main(["rank-measures", "first", "--out", "ranking.csv"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "ranking.csv").read_text() == "mine"
