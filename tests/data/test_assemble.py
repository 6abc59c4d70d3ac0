"""The config as a whole: names, unknown keys, columns that only tables have."""

import ast
from pathlib import Path

import numpy as np
import pytest

import reglab.data
from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.assemble import assemble
from reglab.data.options import Options
from reglab.data.source import Source


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(UserError, match=r"data\.name=digitz: did you mean 'digits'\? \(one of digits, breast_cancer"):
        load({"name": "digitz"})
    with pytest.raises(UserError, match=r"data\.name=None"):
        load({})


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(UserError, match=r"data\.lable_noise is not an option of data=wine: did you mean 'label_noise'"):
        load({"name": "wine", "lable_noise": 0.1})
    with pytest.raises(UserError, match=r"data\.shap is not an option of data=digits: did you mean 'shape'"):
        load({"name": "digits", "shap": "flat"})


def test_an_unknown_shape_names_the_nearest():
    with pytest.raises(UserError, match=r"data\.shape=imag: did you mean 'image'"):
        load({"name": "digits", "shape": "imag"})


@pytest.mark.parametrize(
    "options", [{"split": "grouped", "group": "g"}, {"split": "time", "time": "t"}, {"sample_weight": "w"}]
)
def test_columns_are_for_tables(options):
    with pytest.raises(UserError, match=r"names a column of a table, but data=wine has none"):
        load({"name": "wine", **options})


def test_a_target_that_is_constant_in_training_is_refused():
    targets = np.zeros(40)
    targets[-10:] = 1  # the future differs, but training never sees it
    source = Source("regression", np.ones((40, 1)), ("x",), targets, ("y",), time=np.arange(40))
    with pytest.raises(UserError, match=r"'y' is 0 in every one of the 24 training rows"):
        assemble("steps", source, Options(split="time", time="t"))


def test_summary_states_the_facts():
    summary = load({"name": "digits", "label_noise": 0.1, "train_size": 200, "folds": 5, "fold": 3}).summary
    expected = {"train_rows": 200, "corrupted_rows": 20, "folds": 5, "fold": 3, "split": "stratified", "features": 64}
    assert expected.items() <= summary.items()


def test_importing_the_data_package_imports_no_heavy_library():
    for file in Path(reglab.data.__file__).parent.glob("*.py"):
        top = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {name.name for node in top for name in node.names} | {getattr(node, "module", "") for node in top}
        assert not {str(name).split(".")[0] for name in names} & {"sklearn", "pandas", "scipy", "pyarrow"}, file


@pytest.mark.parametrize(
    "options, targets, features",
    [
        ({"target": 2}, ("2",), ("0", "1")),
        ({"target": 0}, ("0",), ("1", "2")),
        ({"target": [2], "drop": 1}, ("2",), ("0",)),
        ({"target": [0, "2"]}, ("0", "2"), ("1",)),
        ({"target": 0, "split": "grouped", "group": 2}, ("0",), ("1",)),
    ],
)
def test_a_number_names_the_column_whose_header_reads_so(options, targets, features, tmp_path):
    rows = "".join(f"{row * 0.5},{row % 7 + 0.25},{row % 20}\n" for row in range(60))
    (tmp_path / "t.csv").write_text(f"0,1,2\n{rows}")
    data = load({"name": "table", "path": str(tmp_path / "t.csv"), "task": "regression", **options})
    assert (data.target_names, data.feature_names) == (targets, features)
