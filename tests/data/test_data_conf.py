"""Every yaml of conf/data composes and loads; what it shows are the defaults of the code."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from reglab.core.errors import UserError
from reglab.data import load
from reglab.data.assemble import SOURCES
from reglab.data.options import Options

CONF = Path(__file__).parents[2] / "conf"
# That of a LightningDataModule is no data set of ours.
NAMES = sorted(path.stem for path in (CONF / "data").glob("[!_]*.yaml") if path.stem != "lightning")


YOURS = {
    "table": r"data\.path is not set: .*data\.path=FILE\.csv data\.target=COLUMN",
    "image_folder": r"data\.path is not set: .*data\.path=photos",
    "arrays": r"needs two files .*data\.inputs=x\.npy data\.targets=y\.npy",
    "parquet": r"needs files and a column: data\.path=rows\.parquet data\.targets=label",
    "shards": r"needs tar files: data\.path=shards data\.targets=cls",
    "windows": r"needs a series and a column to predict: data\.path=load\.csv data\.target=load",
    "dataset": r"needs a class of yours: data\._target_=my_package\.MyDataset",
}


def composed(name: str) -> dict[str, object]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+data={name}"])
    return OmegaConf.to_container(config.data, throw_on_missing=True)


def test_there_is_one_yaml_for_each_data_set():
    assert sorted(SOURCES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_yaml_shows_every_option_with_its_default(name):
    expected = {field.name: field.default for field in fields(Options)}
    for option, parameter in inspect.signature(SOURCES[name]).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:  # arguments of a class of the user's
            expected[option] = parameter.default
    shown = composed(name)
    assert shown.pop("name") == name
    expected |= {key: [] for key in ("drop", "categorical") if key in expected}
    if name == "dataset":  # nodes that the command line can set a key of
        expected |= {part: {"_target_": None} for part in ("train", "val", "test")} | {"arguments": {}}
    assert shown == expected


@pytest.mark.parametrize("name", [name for name in NAMES if name not in YOURS])
def test_a_composed_node_loads(name):
    assert load(composed(name)).digest == load({"name": name}).digest


@pytest.mark.parametrize("name, says", YOURS.items())
def test_what_is_the_users_own_says_what_it_needs(name, says):
    with pytest.raises(UserError, match=says):
        load(composed(name))
