"""Exported models answer as the run's does, without reglab."""

import importlib.util
import json
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import reglab
from inference.conftest import NEW, Trained, train
from reglab.cli.command import main
from reglab.inference.export import export
from reglab.inference.predictor import Predictor
from reglab.models.several_inputs import split_inputs


def inputs_by_the_file(kept: dict[str, object], rows: pd.DataFrame) -> np.ndarray:
    """Return inputs as ``preprocessing.json`` says, by pandas and numpy alone."""
    numbers = pd.DataFrame(index=rows.index)
    for column in kept["columns"]:
        values = rows[column["name"]]
        if column["type"] == "date":
            dates = pd.to_datetime(values, format=column["form"])
            parts = {"year": dates.dt.year, "month": dates.dt.month, "day": dates.dt.day}
            parts |= {"weekday": dates.dt.day_of_week, "seconds": (dates - pd.Timestamp(0)) / pd.Timedelta(seconds=1)}
            for part, found in parts.items():
                numbers[f"{column['name']}_{part}"] = found
        elif column["type"] != "category":
            numbers[column["name"]] = values.astype(float)
    raw = numbers[kept["numbers"]].to_numpy(float)
    blocks = [(np.where(np.isnan(raw), kept["fill"], raw) - kept["center"]) / kept["scale"]]
    for name, levels in kept["levels"].items():
        blocks += [
            (rows[name].isna() if level is None else rows[name] == level).to_numpy()[:, None] for level in levels
        ]
    return np.concatenate(blocks, axis=1, dtype=np.float32, casting="unsafe")


def test_the_program_answers_as_the_run(churned: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    assert main(["export", str(churned.run), f"out={folder}"]) == 0
    names = ["preprocessing.json", "program.pt2", "weights.pt"]
    assert capsys.readouterr().out.split() == [str(folder / name) for name in names]
    program = torch.export.load(folder / "program.pt2").module()
    inputs = inputs_by_the_file(json.loads((folder / "preprocessing.json").read_text()), NEW)
    wanted = reglab.predictor(churned.run).predict(NEW)["probability_yes"]
    for rows in (1, 2, 3):
        found = program(torch.from_numpy(inputs[:rows])).sigmoid()[:, 0]
        np.testing.assert_allclose(found.detach().numpy(), wanted[:rows], atol=1e-6)
    state, model = torch.load(folder / "weights.pt", weights_only=True), reglab.load(churned.run)
    assert {name: weight.tolist() for name, weight in state.items()} == {
        name: weight.tolist() for name, weight in model.state_dict().items()
    }


def test_a_convolutional_model_takes_any_number_of_images(tmp_path: Path) -> None:
    run = train(
        tmp_path, "data=digits", "data.train_size=60", "data.shape=image", "model=cnn", "trainer.max_epochs=1", model=()
    )
    assert main(["export", str(run), f"out={tmp_path / 'out'}"]) == 0
    program, model = torch.export.load(tmp_path / "out" / "program.pt2").module(), reglab.load(run)
    for rows in (1, 5):
        images = torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(rows))
        torch.testing.assert_close(program(images), model(images), atol=1e-5, rtol=0)


@pytest.mark.skipif(importlib.util.find_spec("onnx") is not None, reason="its packages are installed")
def test_onnx_names_the_packages_that_it_needs(churned: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    with chdir(churned.folder):
        assert main(["export", str(churned.run), "format=onnx"]) == 2
        assert not Path("exported").exists()
    assert "pip install onnx onnxscript" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message", [(["format=onx"], "did you mean 'onnx'?"), (["out=churn.csv"], "is there already")]
)
def test_what_it_cannot_do_is_said(
    churned: Trained, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with chdir(churned.folder):
        assert main(["export", str(churned.run), *words]) == 2
    assert message in capsys.readouterr().err


class TwoInputs(nn.Module):
    """Takes two inputs apart."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 1), nn.Linear(6, 1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return self.first(x) + self.second(z.flatten(1))


def test_a_model_of_several_inputs_takes_their_values_one_behind_the_other(tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(0)
    inputs = {"x": torch.randn(40, 4, generator=draws), "z": torch.randn(40, 2, 3, generator=draws)}
    items = [{**{name: each[row] for name, each in inputs.items()}, "y": float(row)} for row in range(40)]
    data = reglab.dataset(Items(items), inputs=["x", "z"], targets="y", task="regression", workers=0)
    model = TwoInputs()
    split_inputs(model, [each.shape for each in data.several], [each.name for each in data.several])
    predictor = Predictor(model, data.preprocessing)
    export(predictor, tmp_path / "out")
    program = torch.export.load(tmp_path / "out" / "program.pt2").module()
    prepared = data.val.tensor[:5]
    found = program(prepared).detach()
    torch.testing.assert_close(found, model.forward(prepared[:, :4], prepared[:, 4:].reshape(5, 2, 3)).detach())
    kept = predictor.preprocessing
    rows = data.val.index[:5]
    predicted = predictor.predict({name: each[rows] for name, each in inputs.items()})["prediction"]
    wanted = found[:, 0].double() * kept.target_scale[0] + kept.target_center[0]
    np.testing.assert_allclose(predicted, wanted, atol=1e-4)


class Items(torch.utils.data.Dataset):
    """A list as a data set."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.items[number]


WITHOUT_REGLAB = """
import sys

sys.modules["reglab"] = None  # importing it fails, as where it is not installed
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

program = torch.export.load("out/program.pt2").module()
kept = json.loads(Path("out/preprocessing.json").read_text())
new = pd.read_csv("new.csv")
raw = new[kept["numbers"]].to_numpy(float)
columns = [(np.where(np.isnan(raw), kept["fill"], raw) - kept["center"]) / kept["scale"]]
columns += [new[[name]] == level for name, levels in kept["levels"].items() for level in levels]
outputs = program(torch.tensor(np.concatenate(columns, axis=1), dtype=torch.float32))
prices = outputs.detach().numpy() * kept["target_scale"] + kept["target_center"]
assert not [name for name in sys.modules if name.split(".")[0] in ("reglab", "pytorch_lightning") and sys.modules[name]]
print(json.dumps(prices[:, 0].tolist()))
"""


def test_where_reglab_cannot_be_imported_the_files_give_the_same_predictions(tmp_path: Path) -> None:
    """By the code of docs/after.md, in a process of its own."""
    draws = np.random.default_rng(0)
    table = pd.DataFrame({"size": draws.normal(60, 9, 80), "street": draws.choice(["a", "b"], 80)})
    table.assign(price=table["size"] * 3 + (table["street"] == "a")).to_csv(tmp_path / "houses.csv", index=False)
    run = train(tmp_path, "data=table", "data.path=houses.csv", "data.target=price", "trainer.max_epochs=2")
    new = pd.DataFrame({"size": [50, None, 70], "street": ["a", "z", "b"]})
    new.to_csv(tmp_path / "new.csv", index=False)
    assert main(["export", str(run), f"out={tmp_path / 'out'}"]) == 0
    done = subprocess.run([sys.executable, "-c", WITHOUT_REGLAB], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = reglab.predictor(run).predict(new)["prediction"]
    np.testing.assert_allclose(json.loads(done.stdout), wanted, rtol=1e-6)
