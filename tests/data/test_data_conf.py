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
NAMES = sorted(path.stem for path in (CONF / "data").glob("[!_]*.yaml"))


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
        expected[option] = parameter.default
    shown = composed(name)
    assert shown.pop("name") == name
    assert shown == expected | {key: [] for key in ("drop", "categorical") if key in expected}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("table", "image_folder")])
def test_a_composed_node_loads(name):
    assert load(composed(name)).digest == load({"name": name}).digest


def test_the_bare_table_says_what_it_needs():
    with pytest.raises(UserError, match=r"data\.path is not set: .*data\.path=FILE\.csv data\.target=COLUMN"):
        load(composed("table"))


def test_the_bare_image_folder_says_what_it_needs():
    with pytest.raises(UserError, match=r"data\.path is not set: .*data\.path=photos"):
        load(composed("image_folder"))
