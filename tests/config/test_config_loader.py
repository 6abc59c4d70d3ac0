"""Where config files may lie. What a stranger's could bring along: tests/security."""

import sys

import pytest
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from reglab.config import trust
from reglab.config.config_loader import create_hydra
from reglab.config.paths import conf_dir
from reglab.core.errors import UserError


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A config folder of somebody else's beside the working folder, and a package that can be imported."""
    (tmp_path / "here").mkdir()
    (tmp_path / "theirs" / "experiment").mkdir(parents=True)
    (tmp_path / "theirs_too").mkdir()
    (tmp_path / "theirs_too" / "__init__.py").write_text("")
    (tmp_path / "theirs_too" / "named.yaml").write_text("name: from a package\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path)
    with trust.isolated():
        yield tmp_path / "theirs"
    sys.modules.pop("theirs_too", None)


def composed(folder, *overrides, name="train"):
    path = create_config_search_path(str(conf_dir()))
    path.prepend(provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
    try:
        return create_hydra(path).compose_config(name, list(overrides), RunMode.RUN)
    finally:
        GlobalHydra.instance().clear()


def test_files_of_a_named_folder_are_composed(theirs):
    (theirs / "experiment" / "it.yaml").write_text("# @package _global_\nseed: 7\n")
    assert composed(theirs, "experiment=it").seed == 7


def test_a_file_stays_in_its_folder_or_the_working_folder(theirs, tmp_path):
    (tmp_path / "secret.yaml").write_text("# @package _global_\nseed: 7\n")
    (tmp_path / "here" / "mine.yaml").write_text("# @package _global_\nseed: 8\n")
    (theirs / "experiment" / "mine.yaml").symlink_to(tmp_path / "here" / "mine.yaml")
    assert composed(theirs, "experiment=mine").seed == 8
    (theirs / "experiment" / "it.yaml").symlink_to(tmp_path / "secret.yaml")
    for option in ("it", "../../secret"):
        with pytest.raises(UserError, match=r"leads out of its folder, to .*secret\.yaml"):
            composed(theirs, f"experiment={option}")


@pytest.mark.parametrize("given", [True, False])
def test_a_package_in_the_search_path_is_imported_only_where_it_is_trusted(theirs, given):
    (theirs / "it.yaml").write_text("defaults: [train, named, _self_]\nhydra: {searchpath: [pkg://theirs_too]}\n")
    if given:
        (theirs / "it.yaml").write_text("defaults: [train, named, _self_]\n")
    words = ["hydra.searchpath=[pkg://theirs_too]"] if given else []
    with pytest.raises(UserError, match=r"^hydra\.searchpath: pkg://theirs_too: theirs_too is not trusted"):
        composed(theirs, *words, name="it")
    assert "theirs_too" not in sys.modules
    trust.trust("theirs_too")
    assert composed(theirs, *words, name="it").name == "from a package"


def test_other_kinds_of_places_are_refused(theirs):
    (theirs / "it.yaml").write_text("defaults: [train, _self_]\nhydra: {searchpath: ['http://theirs/conf']}\n")
    with pytest.raises(UserError, match="is neither a folder nor a package"):
        composed(theirs, name="it")
