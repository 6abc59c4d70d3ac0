"""``reglab predict``: files of new rows, whole and in pieces."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import reglab
from inference.conftest import Trained, churn, train
from reglab.cli.command import main
from reglab.data import new_files
from reglab.data.new_files import tables
from reglab.data.table_options import Reading

ROWS = '''\
id;plan;city;income;age;member;joined;churn;note
7;a;Bern;"5000,5";70;True;17/2/2024;yes;"two
lines; and a ""quote"""
8;;Zug;;20;False;28/12/2024;no;

9;z;Chur;1000;;;;maybe;x
'''


def predicted(trained: Trained, *words: str) -> int:
    with chdir(trained.folder):
        return main(["predict", str(trained.run), *words])


def test_a_file_of_another_writer_is_predicted_row_by_row(
    churned: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With semicolons, decimal commas, a field of two lines, an unknown city and class, and a blank line."""
    (tmp_path / "new.csv").write_text(ROWS)
    words = (f"data.path={tmp_path / 'new.csv'}", "keep=id,note", "data.decimal=comma")
    assert predicted(churned, *words) == 0
    found = pd.read_csv(tmp_path / "new_predictions.csv")
    rows = pd.DataFrame(
        {
            "age": [70, 20, None],
            "income": [5000.5, None, 1000],
            "city": ["Bern", "Zug", "Chur"],
            "member": [True, False, None],
            "joined": ["17/2/2024", "28/12/2024", None],
            "plan": ["a", None, "z"],
        }
    )
    wanted = reglab.predictor(churned.run).predict(rows)
    pd.testing.assert_frame_equal(found.drop(columns=["id", "note"]), wanted, check_dtype=False)
    assert found["id"].tolist() == [7, 8, 9]
    assert found["note"][0] == 'two\nlines; and a "quote"'
    told = capsys.readouterr()
    assert "3 predictions: " in told.out
    assert "in 1 of 3 rows ('Zug')" in told.err
    assert "on the 2 of 3 rows with a known target: accuracy " in told.err
    assert "ignored" not in told.err


def test_its_score_is_that_of_the_rows(churned: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.parquet"
    assert predicted(churned, "data.path=churn.csv", f"out={out}") == 0
    found, table = pd.read_parquet(out), pd.read_csv(churned.folder / "churn.csv")
    right = (found["prediction"] == table["churn"]).mean()
    chosen = np.where(table["churn"] == "yes", found["probability_yes"], found["probability_no"])
    told = capsys.readouterr().err
    assert f"accuracy {right:.3g}, loss {-np.log(chosen).mean():.3g}" in told
    assert predicted(churned, "data.path=churn.csv", f"out={out}") == 2
    assert "is there already: give another name by out=FILE.csv" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.parquet"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_pieces_hold_the_rows_of_the_whole_file(
    name: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = churn(500).drop(columns="spend").assign(note=["a;b", 'two\n"lines"', "é", ""] * 125)
    path = tmp_path / name
    if name.endswith(".parquet"):
        table.to_parquet(path, row_group_size=50)
    else:
        table.to_csv(path, index=False, encoding=encoding)
    monkeypatch.setattr(new_files, "ROWS", 64)
    found = list(tables(path, Reading(), piece=1000))
    assert len(found) > 5
    assert {table.rows for table in found} != {1}
    columns = {column: [value for each in found for value in _values(each.columns[column])] for column in table.columns}
    pd.testing.assert_frame_equal(pd.DataFrame(columns), table.astype(object), check_dtype=False)


def _values(column: object) -> list[object]:
    return list(column.to_pylist() if hasattr(column, "to_pylist") else column)


def test_pieces_are_predicted_as_the_whole(churned: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert predicted(churned, "data.path=churn.csv", f"out={tmp_path / 'whole.csv'}") == 0
    monkeypatch.setattr(new_files.tables, "__defaults__", (1000,))
    assert predicted(churned, "data.path=churn.csv", f"out={tmp_path / 'pieces.csv'}") == 0
    whole, pieces = (pd.read_csv(tmp_path / name) for name in ("whole.csv", "pieces.csv"))
    assert len(whole) == 240
    pd.testing.assert_frame_equal(pieces, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "give the file of the rows to predict"),
        (("data.path=gone.csv",), "gone.csv: no such file"),
        (("data.path=churn.csv", "out=x.txt"), "let its name end in .csv or .parquet"),
        (("data.path=churn.csv", "out=no/x.csv"), "there is no folder no"),
        (("data.path=churn.csv", "ot=x.csv"), "did you mean 'out'?"),
        (("data.path=churn.csv", "keep=cty"), "data.keep=cty is not a column: did you mean 'city'?"),
        (("churn.csv",), "give it as KEY=VALUE"),
    ],
)
def test_what_it_cannot_do_is_said_and_nothing_is_left(
    churned: Trained, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(churned.folder.iterdir())
    assert predicted(churned, *words) == 2
    assert message in capsys.readouterr().err
    assert set(churned.folder.iterdir()) == before


def test_numbers_may_be_categories_and_classes_in_whatever_file(tmp_path: Path, capsys) -> None:
    """Trained on CSV with semicolons; the rows to predict come as Parquet, with other types."""
    draws = np.random.default_rng(0)
    table = pd.DataFrame({"zone": draws.integers(1, 4, 200), "size": draws.normal(size=200).round(3)})
    table["sold"] = ((table["zone"] == 2) | (table["size"] > 1)).astype(int)
    table.to_csv(tmp_path / "sales.csv", sep=";", index=False)
    words = (
        "data=table",
        "data.path=sales.csv",
        "data.target=sold",
        "data.categorical=zone",
        "data.separator=semicolon",
    )
    run = train(tmp_path, *words)
    new = table.astype({"zone": float, "sold": float})
    new.loc[0, "zone"], new.loc[1, "zone"] = np.nan, 9
    new.to_parquet(tmp_path / "new.parquet")
    capsys.readouterr()
    assert main(["predict", str(run), f"data.path={tmp_path / 'new.parquet'}"]) == 0
    told = capsys.readouterr().err
    found = pd.read_csv(tmp_path / "new_predictions.csv")
    assert (found["prediction"][2:] == table["sold"][2:]).mean() > 0.85
    assert "in 2 of 200 rows (a missing value, '9')" in told
    assert (
        f"on the 200 of 200 rows with a known target: accuracy {(found['prediction'] == table['sold']).mean():.3g}"
        in told
    )


def test_a_target_that_cannot_be_read_keeps_nobody_from_predictions(tmp_path: Path, capsys) -> None:
    table = churn().drop(columns="churn")
    table.to_csv(tmp_path / "spend.csv", index=False)
    run = train(tmp_path, "data=table", "data.path=spend.csv", "data.target=spend", "trainer.max_epochs=1")
    table.assign(spend="soon").to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", str(run), f"data.path={tmp_path / 'new.csv'}"]) == 0
    assert "the target cannot be read, so there is no score: the column 'spend'" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "new_predictions.csv")) == 240


def test_images_of_a_folder_are_predicted_by_their_file(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for number in range(40):
        for label, light in (("dark", 60), ("light", 190)):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            pixels = (light + draws.integers(-40, 40, (9, 12, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    run = train(tmp_path, "data=image_folder", "data.path=photos", "data.size=6")
    (tmp_path / "new" / "deep").mkdir(parents=True)
    Image.fromarray(np.full((20, 30), 200, np.uint8)).save(tmp_path / "new" / "b.png")
    Image.fromarray(np.full((6, 6, 3), 50, np.uint8)).save(tmp_path / "new" / "deep" / "a.jpg")
    assert main(["predict", str(run), f"data.path={tmp_path / 'new'}", f"out={tmp_path / 'out.csv'}"]) == 0
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["file"].tolist() == ["b.png", "deep/a.jpg"]
    assert found["prediction"].tolist() == ["light", "dark"]


def test_arrays_are_predicted_from_their_file(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    inputs = draws.normal(20, 5, (300, 2, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", inputs)
    np.save(tmp_path / "y.npy", inputs.sum(axis=(1, 2)).astype(np.float64))
    run = train(tmp_path, "data=arrays", "data.inputs=x.npy", "data.targets=y.npy", "data.batch_size=16")
    assert main(["predict", str(run), f"data.path={tmp_path / 'x.npy'}", f"out={tmp_path / 'out.csv'}"]) == 0
    found = pd.read_csv(tmp_path / "out.csv")["prediction"]
    assert np.corrcoef(found, inputs.sum(axis=(1, 2)))[0, 1] > 0.95
    assert abs(found.mean() - 120) < 5
