"""Tables that installed packages bring along."""

import sys
from pathlib import Path

import pytest
import sklearn.datasets
import torch

from reglab.core.errors import UserError
from reglab.data.assemble import load
from reglab.data.package_file import located

PATH = "package:sklearn/datasets/data/iris.csv"


def test_a_table_of_a_package_is_that_of_its_own_loader() -> None:
    data = load({"name": "table", "path": PATH, "target": "virginica", "standardize": False, "batch_size": 4})
    theirs = sklearn.datasets.load_iris().data
    parts = torch.cat([data.train.inputs, data.val.inputs, data.test.inputs])
    assert sorted(map(tuple, parts.tolist())) == sorted(map(tuple, torch.tensor(theirs).float().tolist()))


@pytest.mark.parametrize(
    "path, message",
    [
        ("package:not_installed/x.csv", "no package 'not_installed' is installed"),
        ("package:sklearn/datasets/data/irs.csv", "has no file 'datasets/data/irs.csv'; did you mean"),
        ("package:sklearn/../torch/version.py", "has no file"),
        ("package:os.path/x.csv", "no package 'os.path' is installed"),
        ("package:sklearn", "names a package alone: give the path of a file in it, package:sklearn/PATH"),
        ("package:sklearn/", "names a package alone"),
        ("package:", "no package '' is installed"),
        (
            "package:scikit-learn/datasets/data/iris.csv",
            "installed as scikit-learn is imported as sklearn; write package:sklearn/datasets/data/iris.csv",
        ),
        (
            "package:sklearn/datasets/data",
            "is a folder: give a file. Its tables: .*sklearn/datasets/data/iris.csv",
        ),
        ("package:sklearn", "Its tables: package:sklearn/datasets/"),
        ("package:sklearn/ensemble", "There are no tables in it"),
    ],
)
def test_what_is_not_there_is_refused(path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        located(path)


def test_the_package_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spoilt").mkdir()
    (tmp_path / "spoilt" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "spoilt" / "rows.csv").write_text("a,b\n1,2\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert located("package:spoilt/rows.csv").name == "rows.csv"
    assert "spoilt" not in sys.modules
