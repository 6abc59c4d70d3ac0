"""``reglab test`` on the test part and on other rows, against scikit-learn; sweeps stand for their choice."""

import re
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, r2_score, root_mean_squared_error

import reglab
from inference.conftest import Trained, churn, train
from reglab.cli.command import main
from reglab.core.errors import UserError
from reglab.inference.predictor import Predictor
from reglab.inference.testing import other_rows


def values(told: str) -> dict[str, tuple[float, ...]]:
    """Return value and interval by metric."""
    found = {}
    for name, rest in re.findall(r"^(test/\w+) +(.+)$", told, re.MULTILINE):
        found[name] = tuple(float(number) for number in re.findall(r"[-\d.]+", rest))
    return found


def test_other_rows_are_judged_by_their_targets(churned: Trained, tmp_path: Path, capsys) -> None:
    rows = churn(300).iloc[240:].assign(churn=lambda table: table["churn"].where(table.index != 250, "unknown"))
    rows.to_csv(tmp_path / "rows.csv", index=False)
    assert main(["test", str(churned.run), f"data.path={tmp_path / 'rows.csv'}"]) == 0
    told = capsys.readouterr()
    assert "1 of 60 rows have no target that training knew: left out" in told.err
    known = rows[rows["churn"] != "unknown"]
    found = reglab.predictor(churned.run).predict(known)
    loss, low, high = values(told.out)["test/loss"]
    assert loss == pytest.approx(log_loss(known["churn"] == "yes", found["probability_yes"]), abs=1e-3)
    accuracy = accuracy_score(known["churn"], found["prediction"])
    assert values(told.out)["test/accuracy"][0] == pytest.approx(accuracy, abs=1e-3)
    assert low < loss < high


def test_quantities_are_judged_in_their_own_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = churn().drop(columns="churn")
    table.to_csv(tmp_path / "spend.csv", index=False)
    run = train(tmp_path, "data=table", "data.path=spend.csv", "data.target=spend")
    capsys.readouterr()
    assert main(["test", str(run), f"data.path={tmp_path / 'spend.csv'}"]) == 0
    found = values(capsys.readouterr().out)
    predicted = reglab.predictor(run).predict(table.assign(age=table["age"].astype(float)))["prediction"]
    assert found["test/r2"][0] == pytest.approx(r2_score(table["spend"], predicted), abs=1e-3)
    assert found["test/rmse"][0] == pytest.approx(root_mean_squared_error(table["spend"], predicted), rel=1e-2)


def test_each_look_at_the_test_part_is_counted(stored: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    with chdir(stored.folder):
        for _ in range(3):
            assert main(["test", str(stored.run)]) == 0
            told.append(capsys.readouterr())
        assert main(["test", str(stored.run), "data.encoding=cp1252"]) == 2
    assert "is of use with data.path=FILE alone" in capsys.readouterr().err
    assert "before" not in told[0].err
    assert "its test part was measured 1 time before" in told[1].err
    assert "its test part was measured 2 times before" in told[2].err
    assert values(told[0].out) == values(told[2].out)


def test_a_run_in_no_store_has_no_count(churned: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["test"], ["register", "name=churn"]):
        assert main([words[0], str(churned.run), *words[1:]]) == 2
        assert "is in no store (tracking=none)" in capsys.readouterr().err


def test_a_sweep_stands_for_the_setting_that_it_chose(template: Path, tmp_path: Path, capsys) -> None:
    shutil.copy(template, tmp_path / "reglab.db")
    churn().to_csv(tmp_path / "churn.csv", index=False)
    words = ["data=table", "data.path=churn.csv", "data.target=churn", "regularizer=[l2]", "model=linear"]
    words += ["trainer=cpu", "trainer.max_epochs=3", "optimizer.lr=1e-1", "hydra/launcher=basic"]
    with chdir(tmp_path):
        assert main(["train", "-m", *words, "regularizer.l2.strength=1e-6,1e6"]) == 0
        (sweep,) = Path("runs").glob("*/*")
        capsys.readouterr()
        assert main(["predict", str(sweep), "data.path=churn.csv"]) == 0
        told = capsys.readouterr().err
        found = pd.read_csv("churn_predictions.csv")
        (chosen,) = [path for path in sweep.glob("*/config.yaml") if "strength: 1.0e-06" in path.read_text()]
        wanted = reglab.predictor(chosen.parent).predict(pd.read_csv("churn.csv"))
    assert re.search(r"the sweep .* chose l2 1e-6: its first run is taken", told)
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, atol=1e-6, rtol=0)


def test_a_class_at_each_position_is_measured_and_has_no_columns(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    inputs, targets = draws.normal(3, 2, (40, 1, 6, 6)), draws.integers(0, 3, (40, 6, 6))
    np.save(tmp_path / "x.npy", inputs)
    np.save(tmp_path / "y.npy", targets)
    data = reglab.dataset(inputs, targets, task="segmentation", standardize=False)
    predictor = Predictor(torch.nn.Conv2d(1, 3, 3, padding=1), data.preprocessing)
    measured, _ = other_rows(predictor, {}, tmp_path / "x.npy", tmp_path / "y.npy")
    outputs = predictor.model(torch.tensor(inputs).float())
    wanted = torch.nn.functional.cross_entropy(outputs, torch.tensor(targets))
    assert measured["test/loss"] == pytest.approx(wanted.item(), rel=1e-5)
    with pytest.raises(UserError, match=r"each position of a row, for which there are no columns.*reglab.load"):
        predictor.predict(inputs)
