"""A folder with a model that predicts raw rows, and the flavour by which MLflow loads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglab.core.errors import UserError
from reglab.data.new_windows import keys_of
from reglab.data.preprocessing import FILE, Preprocessing, read_preprocessing
from reglab.inference.export import export
from reglab.inference.predictor import Predictor
from reglab.training import checkpoint_files
from reglab.training.finalize import load_evaluation_weights
from reglab.training.restore import restore

if TYPE_CHECKING:
    import pandas as pd

CHECKPOINT = "model.ckpt"


def write_package(predictor: Predictor, checkpoint: Path, folder: Path) -> None:
    """Write what predicts raw rows, and, where the model can be exported, what needs no reglab.

    Args:
        predictor: Of the run.
        checkpoint: Of the run; what only training needs is left out.
        folder: Which is not there yet.
    """
    try:
        export(predictor, folder)
    except UserError:  # such a model is loaded with reglab alone
        folder.mkdir(parents=True)
        (folder / FILE).write_text(predictor.preprocessing.text(), encoding="utf-8")
    content = checkpoint_files.read(checkpoint)
    checkpoint_files.write({key: content[key] for key in ("state_dict", "hyper_parameters")}, folder / CHECKPOINT)


def read_package(folder: Path) -> Predictor:
    """Return what predicts raw rows, of a folder that ``write_package`` wrote."""
    restored = restore(folder / CHECKPOINT)
    load_evaluation_weights(restored.model, restored.cocktail)
    text = (folder / FILE).read_text(encoding="utf-8")
    return Predictor(restored.model, read_preprocessing(text, folder / FILE))


class PyfuncModel:
    """What ``mlflow.pyfunc.load_model`` wraps.

    Args:
        predictor: Predicts raw rows.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: "pd.DataFrame | Any", params: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """Return the predictions of raw rows."""
        return self.predictor.predict(model_input)


def _load_pyfunc(path: str) -> PyfuncModel:
    """Return the model in a folder; MLflow calls it."""
    return PyfuncModel(read_package(Path(path)))


def raw_columns(preprocessing: Preprocessing) -> dict[str, str]:
    """Return the type of each raw column, as MLflow calls it: ``double``, ``string``, or ``any``;
    empty where rows are no table.
    """
    if preprocessing.reads not in ("table", "windows"):
        return {}
    types = {"number": "double", "truth": "any", "date": "any", "category": "string"}
    found = {column.name: "double" if column.numeric else types[column.type] for column in preprocessing.columns}
    return found | dict.fromkeys(keys_of(preprocessing), "any")


def example_rows(preprocessing: Preprocessing) -> list[dict[str, Any]]:
    """Return rows of raw columns that are nobody's: medians, and the first value of each category; of
    a series as many as a window has.
    """
    fill = dict(zip(preprocessing.numbers, preprocessing.fill, strict=False))
    row: dict[str, Any] = {}
    for column in preprocessing.columns:
        if column.type == "category":
            known = [level for level in preprocessing.levels[column.name] if level is not None] or [""]
            row[column.name] = float(known[0]) if column.numeric else known[0]
        elif column.type == "date":
            row[column.name] = _date(column.form if "%" in column.form else "%Y-%m-%d")
        else:
            value = fill.get(column.name, 0.0)
            row[column.name] = value >= 0.5 if column.type == "truth" else value
    keys = keys_of(preprocessing)
    rows = preprocessing.windows.length if preprocessing.windows else 1
    return [row | {name: number if key == "time" else 1 for name, key in keys.items()} for number in range(rows)]


def _date(form: str) -> str:
    from datetime import UTC, datetime

    return datetime(2024, 1, 1, tzinfo=UTC).strftime(form)
