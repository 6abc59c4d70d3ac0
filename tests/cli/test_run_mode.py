"""When ``reglab train`` is one run and when a sweep."""

import pytest
from hydra.types import RunMode

from reglab.cli.run_mode import resolve_mode
from reglab.core.errors import UserError


def test_an_experiment_may_be_a_sweep_by_itself(hydra):
    assert resolve_mode(hydra, "train", ["experiment=study"], False)[0] == RunMode.MULTIRUN


def test_one_run_of_such_an_experiment_is_asked_for_by_its_mode(hydra):
    overrides = ["experiment=study", "regularizer=[l1]", "hydra.mode=RUN"]
    assert resolve_mode(hydra, "train", overrides, False) == (RunMode.RUN, overrides)


def test_blocks_without_a_sweep_are_told_what_is_missing(hydra):
    with pytest.raises(UserError, match=r"sweep\.blocks describes a sweep: add -m"):
        resolve_mode(hydra, "train", ["sweep.blocks=[{regularizer: []}]"], False)
