"""Overrides in round trips through Hydra's own parser, a shell's words, and OmegaConf."""

import shlex
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from reglab.core.override import literal, override, typed

PARSER = OverridesParser.create()
steady = settings(derandomize=True, database=None, max_examples=300, deadline=None)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.text(
    "a1 ,'\"\\${}[]():=%é\n#-.", max_size=8
)
SCALARS = TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
KEYS = st.text("ab1_- ,:()[]{}=\\.$", max_size=6).map(lambda key: f"k{key}z")
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
HARD = [
    *("2023", "1e-3", "1_000", "0x1", "true", "No", "null", "nan", "inf", "", " ", "-", "y (%)/é", "y[0]", "a [mm]"),
    *("b, c", "{a: 1}", "'", '"', "\\", "\\'", 'a\\\\"', 'it\'s "so"', "$HOME", "${seed}", "\\${seed}", "\\\\${"),
    *("a=b", "#x", "~x", "x\ny", "???x"),
]


@steady
@given(VALUES)
def test_hydra_reads_what_was_written(value):
    found = PARSER.parse_override(override("data.key", value)).value()
    assert found == value
    assert repr(found) == repr(value)  # 1, 1.0 and True are equal


@steady
@given(VALUES)
@example(["\\${a}", "${", "a\\"])
def test_a_typed_override_is_one_word_that_composes_to_the_value(value):
    [word] = shlex.split(typed("data.key", value))
    parsed = PARSER.parse_override(word)
    assert parsed.key_or_group == "data.key"
    config = OmegaConf.create({"key": parsed.value()})
    assert OmegaConf.to_container(config, resolve=True) == {"key": value}


@pytest.mark.parametrize("text", HARD)
def test_texts_that_look_like_something_else_stay_texts(text):
    for value in (text, [text, 1], {"key": text}):
        assert PARSER.parse_override(override("k", value)).value() == value
    config = OmegaConf.create({"seed": 3, "key": PARSER.parse_override(override("k", literal(text))).value()})
    assert config.key == text


def test_a_shell_itself_reads_the_words():
    script = f"printf '%s\\0' {' '.join(typed('k', text) for text in HARD)}"
    told = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout.decode()
    values = [PARSER.parse_override(word).value() for word in told.split("\0")[:-1]]
    assert values == [literal(text) for text in HARD]


def test_plain_values_stay_as_one_would_type_them():
    assert override("regularizer", ["l1", "l2"]) == "regularizer=[l1,l2]"
    assert override("optimizer.lr", 1e-3) == "optimizer.lr=0.001"
    assert typed("data.path", "/data/houses.csv") == "data.path=/data/houses.csv"
