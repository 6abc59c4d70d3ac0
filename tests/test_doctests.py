"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

SRC = Path(__file__).parents[1] / "src"
MODULES = [
    ".".join(path.relative_to(SRC).with_suffix("").parts)
    for path in sorted(SRC.rglob("*.py"))
    if ">>> " in path.read_text()
]


def test_there_are_examples() -> None:
    assert len(MODULES) > 10


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_say(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch}, verbose=False)
    assert result.attempted > 0
    assert result.failed == 0
