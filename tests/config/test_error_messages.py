"""What is said about Hydra's and OmegaConf's errors that the command line's tests do not reach."""

import re
import shlex

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from reglab.config.error_messages import explain
from reglab.core.errors import UserError

OPTIONS = {"optimizer": ["adam", "sgd"], "regularizer": ["l1", "l2"]}


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["optimizr=adam"], "did you mean 'optimizer'"),
        (["optimizr.lr=1"], "did you mean 'optimizer'"),
        (["seed.x=1"], "seed.x: seed has no keys"),
        (["regularizer.l22.strength=1"], "no key 'l22' in regularizer; did you mean 'l2'?"),
        (["optimizer=2"], "chosen by the name of its option"),
        (["+seed=2"], "Could not append to config"),
        (["~optimizer.lrr"], "does not exist"),
        (["experiment=stdy"], "experiment=stdy"),
        (["seed=log(1,2,3)"], "cannot read 'seed=log(1,2,3)'"),
    ],
)
def test_composition_errors(hydra, overrides, message):
    with pytest.raises(Exception) as error:  # noqa: PT011 - several kinds
        hydra.compose_config("train", overrides, RunMode.RUN, with_log_configuration=False)
    told = explain(error.value, OPTIONS)
    assert told is not None
    assert message in told


def test_a_missing_value_is_named():
    config = OmegaConf.create({"data": {"path": "???"}})
    with pytest.raises(Exception) as error:  # noqa: PT011 - several kinds
        OmegaConf.to_container(config, throw_on_missing=True)
    assert explain(error.value, {}) == "data.path has no value: set data.path=..."


def test_an_unresolved_interpolation_is_told_in_a_line():
    config = OmegaConf.create({"a": {"b": "${nowhere}"}})
    with pytest.raises(Exception) as error:  # noqa: PT011 - several kinds
        OmegaConf.to_container(config, resolve=True)
    told = explain(error.value, {})
    assert told is not None
    assert "nowhere" in told
    assert "\n" not in told


def test_our_own_errors_are_their_message_and_others_are_left_alone():
    assert explain(UserError("a"), {}) == "a"
    assert explain(ZeroDivisionError(), {}) is None


@pytest.mark.parametrize("value", ["${a}.csv", "a,b", "${a}"])
def test_text_that_is_read_as_something_else_is_told_as_it_is_typed(hydra, value):
    """What the message says to type gives that text."""
    with pytest.raises(Exception) as error:  # noqa: PT011 - several kinds
        hydra.compose_config("train", ["data=table", f"data.path={value}"], RunMode.RUN).data.path  # noqa: B018
    told = explain(error.value, OPTIONS)
    assert told is not None
    (typed,) = shlex.split(re.findall(r"'data\.path=[^']*'", told)[-1])
    found = hydra.compose_config("train", ["data=table", typed], RunMode.RUN).data.path
    assert found == (value if "," in value else "${a}")
