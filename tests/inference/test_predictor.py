"""Predictions of raw rows, against a preparation by scikit-learn and pandas and a model by numpy."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

import reglab
from inference.conftest import NEW, Trained, churn, train
from reglab.core.errors import UserError
from reglab.data.assemble import load
from reglab.inference.predictor import Predictor


def prepared_by_scikit_learn(table: pd.DataFrame, train_rows: np.ndarray, new: pd.DataFrame) -> np.ndarray:
    """Return inputs in the order of the run's: numbers, then categories."""
    numbers = ["age", "income", "member", "year", "month", "day", "weekday", "seconds"]

    def numeric(frame: pd.DataFrame) -> pd.DataFrame:
        dates = pd.to_datetime(frame["joined"], format="%d/%m/%Y")
        seconds = (dates - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
        parts = {"year": dates.dt.year, "month": dates.dt.month, "day": dates.dt.day, "weekday": dates.dt.day_of_week}
        frame = frame.assign(**parts, seconds=seconds, member=frame["member"].astype(str).map({"True": 1, "False": 0}))
        texts = frame[["city", "plan"]].replace("", None).fillna("?")
        return pd.concat([frame[numbers].apply(pd.to_numeric), texts], axis=1)

    fitted = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city", "plan"]),
    ).fit(numeric(table.iloc[train_rows]))
    return fitted.transform(numeric(new))


def outputs_by_numpy(model: object, inputs: np.ndarray) -> np.ndarray:
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    hidden = np.maximum(inputs @ weights["hidden.0.linear.weight"].T + weights["hidden.0.linear.bias"], 0)
    return hidden @ weights["head.weight"].T + weights["head.bias"]


def test_raw_rows_are_prepared_as_in_training(churned: Trained, caplog: pytest.LogCaptureFixture) -> None:
    node = {"name": "table", "path": str(churned.folder / "churn.csv"), "target": "churn", "drop": "spend"}
    rows = load(node).train.index.numpy()
    outputs = outputs_by_numpy(reglab.load(churned.run), prepared_by_scikit_learn(churn(), rows, NEW))[:, 0]
    with caplog.at_level(logging.WARNING):
        found = reglab.predictor(churned.run).predict(NEW)
    np.testing.assert_allclose(found["probability_yes"], 1 / (1 + np.exp(-outputs)), atol=1e-6)
    np.testing.assert_allclose(found["probability_no"] + found["probability_yes"], 1, atol=1e-12)
    assert found["prediction"].tolist() == ["yes" if output > 0 else "no" for output in outputs]
    told = caplog.text
    assert "'city' holds values that no training row has, in 1 of 3 rows ('Zug')" in told
    assert "'plan' holds values that no training row has, in 1 of 3 rows ('z')" in told
    assert "were ignored: id" in told
    assert "age (1), income (1), joined_year (1)" in told


def test_the_training_rows_are_predicted_as_they_were(churned: Trained) -> None:
    """From raw rows: by prepared ones the model is right about as often."""
    table = pd.read_csv(churned.folder / "churn.csv")
    assert (reglab.predictor(churned.run).predict(table)["prediction"] == table["churn"]).mean() > 0.9


def test_rows_keep_their_order_and_index_and_columns_may_be_in_any(churned: Trained) -> None:
    predictor = reglab.predictor(churned.run)
    found = predictor.predict(NEW)
    other = predictor.predict(NEW.iloc[::-1, ::-1].set_axis([2, 1, 0]))
    pd.testing.assert_frame_equal(other.sort_index(), found)
    assert len(predictor.predict(NEW.iloc[:0])) == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"age": None, "city": None}, "lack 2 columns that the model was trained on: age, city"),
        ({"income": "much"}, "'income' is to be numbers .* holds 'much'"),
        ({"member": "perhaps"}, "'member' holds 'perhaps'.* True or False in training"),
        ({"joined": "May"}, "'joined' holds 'May'.*no date"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(churned: Trained, change: dict[str, str | None], message: str) -> None:
    rows = NEW.drop(columns=[name for name, value in change.items() if value is None])
    rows = rows.assign(**{name: value for name, value in change.items() if value is not None})
    with pytest.raises(UserError, match=message):
        reglab.predictor(churned.run).predict(rows)


def test_an_array_is_no_table_with_categories(churned: Trained) -> None:
    """Its one-hot columns would be scaled as numbers."""
    predictor = reglab.predictor(churned.run)
    with pytest.raises(UserError, match=r"columns of a table, categories among them \(.*\): give a table"):
        predictor.predict(np.zeros((2, *predictor.preprocessing.shape)))


def test_a_run_without_the_file_is_served_by_its_data_while_they_are_the_same(
    churned: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(churned.folder)
    wanted = reglab.predictor(churned.run).predict(NEW)
    kept, table = churned.run / "preprocessing.json", churned.folder / "churn.csv"
    text, rows = kept.read_text(), table.read_text()
    try:
        kept.unlink()
        pd.testing.assert_frame_equal(reglab.predictor(churned.run).predict(NEW), wanted)
        table.write_text(rows.replace("Bern", "Genf"))
        with pytest.raises(UserError, match="its data changed since: restore them, or train again"):
            reglab.predictor(churned.run)
    finally:
        kept.write_text(text)
        table.write_text(rows)


@pytest.mark.parametrize(
    "before, after",
    [
        ('"noise": 0', '"noise": 900000000'),
        ('"reads": "table"', '"reads": "program"'),
        ('"fill": [', '"fill": ["1", '),
        ('"sheet"', '"shell"'),
        ('"target_names": ["no"', '"target_names": [["no"]'),
        ("}", ""),
        ('"shape": [14]', '"shape": [14, 1]'),
    ],
)
def test_a_damaged_file_is_named(churned: Trained, before: str, after: str) -> None:
    kept = churned.run / "preprocessing.json"
    text = kept.read_text()
    assert before in text
    try:
        kept.write_text(text.replace(before, after, 1))
        with pytest.raises(UserError, match=r"preprocessing.json.* (is damaged|is not that of its model).*train again"):
            reglab.predictor(churned.run)
    finally:
        kept.write_text(text)


def test_it_is_plain_data_that_others_can_read(churned: Trained) -> None:
    found = json.loads((churned.run / "preprocessing.json").read_text())
    assert found["levels"] == {"city": ["Basel", "Bern", "Chur"], "plan": [None, "a", "b"]}
    assert found["target_names"] == ["no", "yes"]
    assert "joined_hour" not in found["numbers"]
    assert dict(zip(found["numbers"], found["fill"], strict=True))["joined_year"] == 2024


def _spend(folder: Path) -> pd.DataFrame:
    table = churn().assign(churn=churn()["churn"] == "yes", grade=np.arange(240) % 3 + 1)
    table.to_csv(folder / "spend.csv", index=False)
    return table


TASKS = [
    (("data.target=spend",), ["prediction"]),
    (("data.target=[spend,age]", "data.task=regression"), ["prediction_spend", "prediction_age"]),
    (("data.target=spend", "data.task='quantile(0.1,0.9)'"), ["quantile_0.1", "quantile_0.9"]),
    (("data.target=grade", "data.task=poisson"), ["rate"]),
    (
        ("data.target=grade", "data.task=ordinal"),
        ["prediction", "probability_1", "probability_2", "probability_3"],
    ),
    (
        ("data.target=[churn,member]", "data.task=multilabel"),
        ["prediction_churn", "prediction_member", "probability_churn", "probability_member"],
    ),
]


@pytest.mark.parametrize("words, columns", TASKS)
def test_each_task_has_its_columns(tmp_path: Path, words: tuple[str, ...], columns: list[str]) -> None:
    table = _spend(tmp_path)
    run = train(tmp_path, "data=table", "data.path=spend.csv", *words)
    table = table.assign(**{name: table[name].astype(float) for name in ("age", "spend")})
    found = reglab.predictor(run).predict(table)
    assert list(found.columns) == columns
    probabilities = found[[name for name in columns if name.startswith("probability")]]
    assert ((probabilities >= 0) & (probabilities <= 1)).all(axis=None)
    if "spend" in words[0]:  # in its own unit
        assert found.iloc[:, 0].corr(table["spend"]) > 0.8
        assert abs(found.mean(axis=1).mean() - table["spend"].mean()) < 100 or len(columns) > 1
    if columns == ["rate"]:
        assert abs(found["rate"].mean() - 2) < 0.4
    if len(probabilities.columns) == 3:
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        assert set(found["prediction"]) <= {"1", "2", "3"}


def test_inputs_of_a_bundled_set_are_its_raw_columns(tmp_path: Path) -> None:
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True)
    run = train(tmp_path, "data=wine", "data.noise_columns=3")
    predictor = reglab.predictor(run)
    classes = np.array(predictor.preprocessing.target_names)[wine.target]
    assert (predictor.predict(wine.data)["prediction"] == classes).mean() > 0.9
    by_array = predictor.predict(wine.data.to_numpy())
    pd.testing.assert_frame_equal(by_array, predictor.predict(wine.data))


def test_a_model_of_python_is_given(template: Path, tmp_path: Path) -> None:
    shutil.copy(template, tmp_path / "reglab.db")
    draws = np.random.default_rng(1)
    inputs = draws.normal(5, 3, (120, 4))
    data = reglab.dataset(inputs, inputs[:, 0] * 10 + 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        reglab.fit(nn.Linear(4, 1), data, epochs=60, lr=5e-2, tracking=f"sqlite:///{tmp_path / 'reglab.db'}")
        (run,) = tmp_path.glob("runs/*/*")
        found = reglab.predictor(run, model=nn.Linear(4, 1)).predict(inputs)
    np.testing.assert_allclose(found["prediction"], inputs[:, 0] * 10 + 3, atol=3)


class Listwise(nn.Module):
    """Scores documents by themselves and the mean of their query, padding included."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(6, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.score(torch.cat([inputs, inputs.mean(1, keepdim=True).expand_as(inputs)], -1))


def test_documents_that_are_scored_together_are_padded_as_in_training() -> None:
    draws = np.random.default_rng(0)
    query = np.repeat(np.arange(40), draws.integers(2, 6, 40))
    inputs, grades = draws.normal(3, 2, (len(query), 3)), draws.integers(0, 3, len(query))
    data = reglab.dataset(inputs, grades, query=query, task="ranking")
    predictor = Predictor(Listwise(), data.preprocessing)
    wanted = predictor.model(data.val.inputs).detach().squeeze(-1)
    frame = pd.DataFrame(inputs, columns=["x0", "x1", "x2"]).assign(query=query)
    found = predictor.predict(frame.sample(frac=1, random_state=0)).sort_index()["score"]
    for scores, number in zip(wanted, data.val.index.tolist(), strict=True):
        rows = np.flatnonzero(query == number)
        np.testing.assert_allclose(found[rows], scores[: len(rows)], atol=1e-5)
    pairs = np.flatnonzero(np.isin(query, np.flatnonzero(np.bincount(query) == 2)[:2]))
    by_array = predictor.predict(inputs[pairs].reshape(2, 2, 3))
    np.testing.assert_allclose(by_array["score"], found[pairs], atol=1e-6)
    for alone in (inputs, frame.drop(columns="query")):
        with pytest.raises(UserError, match="scores the documents of a query together: give the column 'query'"):
            predictor.predict(alone)
