"""Classes of any name get a weight on the command line."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from reglab.config.class_weight import with_pairs
from reglab.data.options import Options

CLASSES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
steady = settings(derandomize=True, database=None, max_examples=150, deadline=None)


def given_weights(argument):
    [word] = with_pairs([argument])
    return Options(class_weight=OverridesParser.create().parse_override(word).value()).weight_of_class


@steady
@given(st.dictionaries(CLASSES, st.integers(0, 9), min_size=1, max_size=3))
def test_a_class_of_any_name_in_quotes_has_its_weight(weights):
    escaped = {name.replace("\\", "\\\\").replace('"', '\\"'): weight for name, weight in weights.items()}
    inside = ", ".join(f'"{name}": {weight}' for name, weight in escaped.items())
    assert given_weights(f"data.class_weight={{{inside}}}") == weights


@pytest.mark.parametrize(
    "argument, weights",
    [
        ("data.class_weight={a:1,b:2.5}", {"a": 1, "b": 2.5}),
        ("data.class_weight={2: 3}", {"2": 3}),
        ("data.class_weight={'<=50K': 1}", {"<=50K": 1}),
        ('data.class_weight=[[">50K",3],[b,1]]', {">50K": 3, "b": 1}),
        ("data.class_weight=balanced", None),
    ],
)
def test_the_other_spellings(argument, weights):
    assert given_weights(argument) == weights


def test_other_arguments_and_what_cannot_be_read_stay():
    arguments = ["data.class_weight={>50K: 3", 'model={"a b": 1}', "data.class_weight={a: 1}", "seed=1"]
    assert with_pairs(arguments) == arguments
