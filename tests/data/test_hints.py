"""A setting that a message advises is what the shell and Hydra make of it."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from reglab.data.hints import setting

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r\n$", exclude_categories=["Cs"]), min_size=1, max_size=9
)


def typed(hint: str) -> object:
    (argument,) = shlex.split(hint)
    override = OverridesParser.create().parse_overrides([argument])[0]
    value = override.value()
    return [str(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "name", ["a [mm]", "b, c", "x=y", "it's", 'say "hi"', "null", "2", "a\\", "?", "-999", "é", "1e3"]
)
def test_names_come_through(name):
    assert typed(setting("drop", [name, "plain"])) == [name, "plain"]


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_any_names_come_through(names):
    assert typed(setting("drop", names)) == names


def test_types_come_through():
    assert typed(setting("types", {"a": "number"})) == {"a": "number"}
    assert typed(setting("types", {"a": "%d/%m/%Y"})) == {"a": "%d/%m/%Y"}
    assert typed(setting("types", {"a [mm]": "number"})) == ["a [mm]=number"]
