"""What a run recorded of its test part follows from its predictions of these raw rows, by numpy and scikit-learn;
``reglab test`` gives it, too.
"""

import json
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss, ndcg_score, r2_score, root_mean_squared_error

import reglab
from inference.conftest import train
from reglab.analysis import formatting
from reglab.cli.command import main
from reglab.core.errors import UserError
from reglab.data.assemble import load
from reglab.inference.find import found
from reglab.inference.register import interface
from reglab.inference.testing import other_rows

ROWS = 200


def patients() -> pd.DataFrame:
    """Return rows with a time and an event, a grade within a query, a price and a sale, which all follow from the
    same two numbers.
    """
    draws = np.random.default_rng(0)
    table = pd.DataFrame({"age": draws.integers(18, 80, ROWS), "dose": draws.normal(3, 1, ROWS).round(3)})
    told = table["age"] / 20 + table["dose"]
    table["arm"] = draws.choice(["a", "b"], ROWS)
    table["months"] = (draws.exponential(60, ROWS) / np.exp(told - 5) + 0.1).round(3)
    table["seen"] = (draws.random(ROWS) < 0.7).astype(int)
    table["grade"] = np.digitize(told + draws.normal(0, 0.3, ROWS), [4, 5.5, 7])
    table["query"] = [f"q{row // 5}" for row in range(ROWS)]
    return table.assign(price=told * 100 + 7, sold=np.where(told > 5.5, "yes", "no"))


def write_series(path: Path) -> None:
    """Write two series of the same 150 hours, in the order of the hours."""
    draws, hours = np.random.default_rng(1), np.arange(150)
    each = [pd.DataFrame({"hour": hours, "site": site, "load": 20 + 5 * np.sin(hours / 4)}) for site in ("n", "s")]
    table = pd.concat(each).sort_values(["hour", "site"], ignore_index=True)
    table["load"] += np.where(table["site"] == "s", 3, 0) + draws.normal(0, 0.2, 300)
    table.assign(temp=draws.normal(0, 1, 300)).to_csv(path, index=False)


TABLE = ("data=table", "data.path=rows.csv")
SERIES = ("data=windows", "data.path=series.csv", "data.target=load", "data.series=site", "data.time=hour")
RUNS: dict[str, tuple[str, ...]] = {
    "survival": (*TABLE, "data.target=months", "data.event=seen", "data.drop=[query,grade,price,sold]"),
    "ranking": (*TABLE, "data.target=grade", "data.query=query", "data.drop=[months,seen,price,sold]"),
    "multi": (
        *TABLE,
        "data.task={price: regression, sold: 2*binary, grade: classification}",
        "data.drop=[months,seen,query]",
    ),
    "windows": (*SERIES, "data.length=6", "data.horizon=[1,3]"),
    "padded": ("data=arrays", "data.inputs=x.npy", "data.targets=y.npy", "data.pad=-1"),
    "several": ("data=arrays", "data.inputs=[x.npy,z.npy]", "data.targets=y.npy"),
    "parquet": ("data=parquet", "data.path=rows.parquet", "data.inputs=[age,dose]", "data.targets=sold"),
    "lists": ("data=parquet", "data.path=lists.parquet", "data.inputs=curve", "data.targets=sold"),
    "images": ("data=image_folder", "data.path=photos", "data.size=6", "data.channels=1"),
}


class Run(NamedTuple):
    """A run in its working folder, and what it recorded of its test part, by name."""

    folder: Path
    name: str
    run: Path
    test: dict[str, float]

    @property
    def rows(self) -> np.ndarray[Any, Any]:
        """The numbers of the rows, or the windows, of the test part."""
        node = OmegaConf.to_container(OmegaConf.load(self.run / "config.yaml"), resolve=True)["data"]
        with chdir(self.folder):
            return load({key: value for key, value in node.items() if key != "batch_size"}).test.index.numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, draws = tmp_path_factory.mktemp("judged"), np.random.default_rng(2)
    table = patients()
    table.to_csv(made / "rows.csv", index=False)
    table.to_parquet(made / "rows.parquet")
    write_series(made / "series.csv")
    padded = draws.normal(3, 2, (ROWS, 4)).astype(np.float32)
    padded[draws.random((ROWS, 4)) < 0.2] = -1
    curves = draws.normal(3, 2, (ROWS, 2, 3)).astype(np.float32)
    np.save(made / "x.npy", padded)
    np.save(made / "z.npy", curves)
    np.save(made / "y.npy", padded.sum(axis=1) * 10 + curves[:, 0, 0])
    pd.DataFrame({"curve": list(curves.reshape(ROWS, 6)), "sold": table["sold"]}).to_parquet(made / "lists.parquet")
    for number in range(60):
        home = made / "photos" / ("dark" if number % 2 else "light")
        home.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(90, 140, (6, 6)) + 30 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(home / f"{number}.png")
    return made


@pytest.fixture(scope="module")
def trained(folder: Path) -> Callable[[str], Run]:
    """Return the run of a name, which is trained once."""

    @cache
    def run(name: str) -> Run:
        made = train(folder, *RUNS[name], "measure.test=true", "trainer.max_epochs=4", "data.batch_size=16")
        lines = map(json.loads, (made / "journal.jsonl").read_text().splitlines())
        recorded = next(line["metrics"] for line in lines if "test/loss" in line.get("metrics", {}))
        return Run(folder, name, made, {key.removeprefix("test/"): value for key, value in recorded.items()})

    return run


def judged(run: Run, *paths: Path) -> dict[str, float]:
    """Return what ``reglab test`` measures on files, by name."""
    model = found(run.run, None, None)
    measured, _ = other_rows(model.predictor, model.config, *paths)
    return {name.removeprefix("test/"): value for name, value in measured.items()}


def same(run: Run, *paths: Path) -> None:
    """Check that ``reglab test`` on the rows of the test part measures what the run recorded."""
    measured = judged(run, *paths)
    assert measured.keys() == run.test.keys()
    for name, value in run.test.items():
        assert measured[name] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), name


def predicted(run: Run, path: str, *words: str) -> pd.DataFrame:
    """Return the predictions of a file by ``reglab predict``."""
    out = run.folder / f"predictions_of_{Path(path).name}.csv"
    assert main(["predict", str(run.run), f"data.path={path}", f"out={out}", *words]) == 0
    return pd.read_csv(out)


def rows_of_test(run: Run) -> tuple[pd.DataFrame, Path]:
    """Return the rows of the test part, and the file to which they are written."""
    path = run.folder / f"{run.name}.csv"
    rows = patients().iloc[run.rows if run.name != "ranking" else documents(run)].reset_index(drop=True)
    rows.to_csv(path, index=False)
    return rows, path


def documents(run: Run) -> np.ndarray[Any, Any]:
    """Return the rows of the queries of the test part; queries are numbered in the order of their names."""
    queries = patients()["query"]
    return np.flatnonzero(queries.isin(np.unique(queries)[run.rows]))


def test_survival_gives_the_risk_of_each_row(trained: Callable[[str], Run], capsys) -> None:
    run = trained("survival")
    rows, path = rows_of_test(run)
    risk = predicted(run, str(path))["log_hazard"].to_numpy()
    assert "it is neither a time nor a probability" in capsys.readouterr().err
    months, seen = rows["months"].to_numpy(), rows["seen"].to_numpy() == 1
    pairs = seen[:, None] & (months[:, None] < months)
    right = (risk[:, None] > risk) + (risk[:, None] == risk) / 2
    assert right[pairs].mean() == pytest.approx(run.test["concordance"], abs=1e-5)
    same(run, path)


def test_ranking_scores_each_row_of_a_query(trained: Callable[[str], Run]) -> None:
    run = trained("ranking")
    rows, path = rows_of_test(run)
    rows = rows.assign(score=predicted(run, str(path))["score"])
    gains = [ndcg_score([2.0 ** query["grade"] - 1], [query["score"]], k=10) for _, query in rows.groupby("query")]
    assert np.mean(gains) == pytest.approx(run.test["ndcg"], abs=1e-5)
    same(run, path)
    alone = reglab.predictor(run.run).predict(rows.drop(columns=["query", "score"]).iloc[:3])
    np.testing.assert_allclose(alone["score"], rows["score"][:3], atol=1e-6)


def test_each_of_several_targets_has_its_columns(trained: Callable[[str], Run], capsys) -> None:
    run = trained("multi")
    rows, path = rows_of_test(run)
    found = predicted(run, str(path))
    assert f"on the 40 of 40 rows with a known target: loss {run.test['loss']:.3f}" in capsys.readouterr().err
    price = rows["price"], found["prediction_price"]
    assert r2_score(*price) == pytest.approx(run.test["price/r2"], abs=1e-5)
    assert root_mean_squared_error(*price) == pytest.approx(run.test["price/rmse"], rel=1e-5)
    for name in ("sold", "grade"):
        assert accuracy_score(rows[name], found[f"prediction_{name}"]) == pytest.approx(run.test[f"{name}/accuracy"])
        classes = sorted(patients()[name].unique())
        probabilities = found[[f"probability_{name}_{each}" for each in classes]]
        assert log_loss(rows[name], probabilities, labels=classes) == pytest.approx(run.test[f"{name}/loss"], rel=1e-5)
    same(run, path)


def test_windows_give_the_forecasts_behind_the_last_row_of_each_series(trained: Callable[[str], Run]) -> None:
    """Each window of the test part is a series of its own for the predictor, and the file has them all."""
    run, table = trained("windows"), pd.read_csv(trained("windows").folder / "series.csv")
    by_site = [rows.reset_index(drop=True) for _, rows in table.groupby("site")]
    windows = 150 - 6 - 3 + 1
    cut, wanted = [], []
    for number, window in enumerate(run.rows):
        series, first = by_site[window // windows], window % windows
        cut.append(series.iloc[first : first + 6].assign(site=f"w{number:03}"))
        wanted.append(series["load"][[first + 6, first + 8]].tolist())
    found = reglab.predictor(run.run).predict(pd.concat(cut).sample(frac=1, random_state=0))
    assert found["site"].tolist() == [f"w{number:03}" for number in range(len(cut))]
    assert found["hour"].tolist() == [rows["hour"].iloc[-1] for rows in cut]
    forecasts, wanted = found[["prediction_load+1", "prediction_load+3"]].to_numpy(), np.array(wanted)
    assert r2_score(wanted, forecasts) == pytest.approx(run.test["r2"], abs=1e-5)
    hours = run.rows % windows
    path = run.folder / "later.csv"
    table[table["hour"].between(hours.min(), hours.max() + 8)].to_csv(path, index=False)
    same(run, path)
    last = predicted(run, str(path))
    assert last["site"].tolist() == ["n", "s"]
    assert (last["hour"] == hours.max() + 8).all()


def test_windows_that_cannot_be_are_refused(trained: Callable[[str], Run]) -> None:
    run = trained("windows")
    predictor, table = reglab.predictor(run.run), pd.read_csv(run.folder / "series.csv")
    with pytest.raises(UserError, match="the series n has 5 rows, and the model forecasts from the last 6"):
        predictor.predict(table[table["hour"] < 5])
    with pytest.raises(UserError, match="'temp' has no finite value in row 3"):
        predictor.predict(table.assign(temp=table["temp"].where(table.index != 3)))
    with pytest.raises(UserError, match=r"lack the column 'load'.*valid: hour"):
        predictor.predict(table.drop(columns="load"))
    with pytest.raises(UserError, match="'hour' holds one time twice"):
        predictor.predict(pd.concat([table, table]))


@pytest.mark.parametrize("name", ["padded", "several"])
def test_arrays_are_predicted_as_they_were_measured(trained: Callable[[str], Run], name: str, capsys) -> None:
    run = trained(name)
    rows, arrays = run.rows, {each: np.load(run.folder / f"{each}.npy") for each in "xyz"}
    for each, values in arrays.items():
        np.save(run.folder / f"{name}_{each}.npy", values[rows])
    inputs = [run.folder / f"{name}_{each}.npy" for each in ("x" if name == "padded" else "xz")]
    path, targets = Path(",".join(map(str, inputs))), run.folder / f"{name}_y.npy"
    found = predicted(run, str(path))["prediction"]
    wanted = arrays["y"][rows]
    assert r2_score(wanted, found) == pytest.approx(run.test["r2"], abs=1e-5)
    assert root_mean_squared_error(wanted, found) == pytest.approx(run.test["rmse"], rel=1e-5)
    same(run, path, targets)
    given = {key: arrays[key][rows] for key in "xz"} if name == "several" else arrays["x"][rows].tolist()
    np.testing.assert_allclose(reglab.predictor(run.run).predict(given)["prediction"], found, rtol=1e-6)
    capsys.readouterr()
    assert main(["test", str(run.run), f"data.path={path}", f"data.targets={targets}"]) == 0
    assert f"test/rmse  {formatting.number(run.test['rmse'])}" in capsys.readouterr().out
    assert main(["test", str(run.run), f"data.path={path}"]) == 2
    assert "has no targets in it: give their file, too, data.targets=y.npy" in capsys.readouterr().err
    for other, rest in ((wanted[:-1], "at least 40"), (np.append(wanted, 0.0), "has 40")):
        np.save(run.folder / "other.npy", other)
        assert main(["test", str(run.run), f"data.path={path}", f"data.targets={run.folder / 'other.npy'}"]) == 2
        assert f"has {len(other)} rows, and data.path {rest}: give a target for each row" in capsys.readouterr().err


def test_several_inputs_are_told_by_name(trained: Callable[[str], Run]) -> None:
    run = trained("several")
    predictor, inputs = reglab.predictor(run.run), {"x": np.zeros((2, 4)), "z": np.zeros((2, 2, 3))}
    assert len(predictor.predict([inputs["x"], inputs["z"]])) == 2
    with pytest.raises(UserError, match="no input 'zz': did you mean 'z'"):
        predictor.predict({"x": inputs["x"], "zz": inputs["z"]})
    with pytest.raises(UserError, match="lack the input 'z'"):
        predictor.predict({"x": inputs["x"]})
    with pytest.raises(UserError, match=r"x \[rows, 4\] and z \[rows, 2, 3\]"):
        predictor.predict({"x": inputs["x"], "z": inputs["x"]})


@pytest.mark.parametrize("name", ["parquet", "lists"])
def test_rows_of_parquet_files(trained: Callable[[str], Run], name: str) -> None:
    run = trained(name)
    source = pd.read_parquet(run.folder / RUNS[name][1].partition("=")[2])
    rows, path = source.iloc[run.rows].reset_index(drop=True), run.folder / f"{name}_test.parquet"
    rows.to_parquet(path)
    found = predicted(run, str(path))
    assert accuracy_score(rows["sold"], found["prediction"]) == pytest.approx(run.test["accuracy"])
    assert log_loss(rows["sold"] == "yes", found["probability_yes"]) == pytest.approx(run.test["loss"], rel=1e-5)
    same(run, path)
    if name == "parquet":
        rows.to_csv(path.with_suffix(".csv"), index=False)
        pd.testing.assert_frame_equal(predicted(run, str(path.with_suffix(".csv"))), found, atol=1e-6)
        with pytest.raises(UserError, match="no value in dose, and training had one in every row"):
            reglab.predictor(run.run).predict(rows.assign(dose=None))


def test_images_are_judged_by_the_folder_that_they_are_in(trained: Callable[[str], Run], capsys) -> None:
    run = trained("images")
    files = sorted((run.folder / "photos").glob("*/*.png"))
    for row in run.rows:
        copy = run.folder / "later" / files[row].parent.name / files[row].name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(files[row].read_bytes())
    found = predicted(run, str(run.folder / "later"))
    pixels = np.stack([np.asarray(Image.open(run.folder / "later" / name))[None] for name in found["file"]])
    by_array = reglab.predictor(run.run).predict(pixels)
    np.testing.assert_allclose(by_array["probability_dark"], found["probability_dark"], atol=1e-6)
    np.save(run.folder / "pixels.npy", pixels)
    pd.testing.assert_frame_equal(predicted(run, str(run.folder / "pixels.npy")), found.drop(columns="file"))
    assert (found["file"].str.partition("/")[0] == found["prediction"]).mean() == pytest.approx(run.test["accuracy"])
    same(run, run.folder / "later")
    assert main(["test", str(run.run), f"data.path={run.folder / 'later' / 'dark'}"]) == 2
    assert "no image in a folder called as a class of training (dark, light)" in capsys.readouterr().err


def test_rows_come_as_mappings_too(trained: Callable[[str], Run]) -> None:
    run = trained("multi")
    rows, predictor = patients()[["age", "dose", "arm"]].iloc[:4], reglab.predictor(run.run)
    wanted = predictor.predict(rows)
    pd.testing.assert_frame_equal(predictor.predict(rows.to_dict("list")), wanted)
    pd.testing.assert_frame_equal(predictor.predict(rows.to_dict("records")), wanted)
    with pytest.raises(UserError, match=r"give one row as \[\{COLUMN: VALUE, ...\}\]"):
        predictor.predict({"age": 3, "dose": 2.0, "arm": "a"})
    with pytest.raises(UserError, match="a mapping of columns of one length"):
        predictor.predict({"age": [3], "dose": [2.0, 1.0], "arm": ["a"]})
    with pytest.raises(UserError, match="give a frame, a mapping of columns"):
        predictor.predict("rows.csv")


@pytest.mark.parametrize("name", ["survival", "ranking", "multi", "windows", "padded", "several", "lists"])
def test_an_exported_program_and_the_interface_for_mlflow_take_such_rows(
    trained: Callable[[str], Run], name: str, tmp_path: Path
) -> None:
    run = trained(name)
    predictor = reglab.predictor(run.run)
    given = interface(predictor)
    assert list(predictor.predict(given.example)) == list(given.outputs)
    if given.columns:
        assert list(given.example) == list(given.columns)
    assert main(["export", str(run.run), f"out={tmp_path / 'out'}"]) == 0
    program, draws = torch.export.load(tmp_path / "out" / "program.pt2").module(), torch.Generator().manual_seed(0)
    inputs = torch.randn(5, *predictor.preprocessing.shape, generator=draws)
    torch.testing.assert_close(program(inputs), predictor.model(inputs), atol=1e-6, rtol=0)
