import pytest
from omegaconf import OmegaConf

from reglab.config.expansion import check_expansion
from reglab.core.errors import UserError

LAUGHS = {
    "text": {f"a{n}": f"${{a{n - 1}}}${{a{n - 1}}}" for n in range(1, 40)} | {"a0": "ha"},
    "lists": {f"a{n}": [f"${{a{n - 1}}}", f"${{a{n - 1}}}"] for n in range(1, 40)} | {"a0": ["ha"]},
    "relative": {"x": {f"a{n}": f"${{.a{n - 1}}}${{..x.a{n - 1}}}" for n in range(1, 40)} | {"a0": "ha"}},
    "functions": {f"a{n}": f"${{oc.select:a{n - 1}}} ${{oc.select: a{n - 1}}}" for n in range(1, 40)} | {"a0": "ha"},
    "nested": {f"a{n}": f"${{oc.decode:${{a{n - 1}}}}} ${{a{n - 1}}}" for n in range(1, 40)} | {"a0": "ha"},
    "in lists": {"x": [f"${{x[{n + 1}]}}${{x.{n + 1}}}" for n in range(40)] + ["ha"]},
    "in nodes": {f"a{n}": {"k": f"${{a{n - 1}}}", "l": f"${{a{n - 1}}}"} for n in range(1, 40)} | {"a0": "ha"},
}


@pytest.mark.parametrize("config", LAUGHS.values(), ids=LAUGHS)
def test_what_doubles_with_every_line_is_refused(config):
    with pytest.raises(UserError, match="is too large once its interpolations are resolved"):
        check_expansion(config)


def test_a_chain_without_end_is_refused():
    with pytest.raises(UserError, match="form too long a chain"):
        check_expansion({f"a{n}": f"${{a{n + 1}}}" for n in range(5000)} | {"a5000": 1})


def test_a_few_lines_of_it_pass_and_weigh_what_they_become():
    few = {key: value for key, value in LAUGHS["text"].items() if int(key[1:]) <= 12}
    assert len(OmegaConf.create(few).a12) == 2 * 2**12
    check_expansion(few)


@pytest.mark.parametrize(
    "config",
    [
        {"a": "${b}", "b": "${a}"},  # OmegaConf says so when it resolves it
        {"a": "${missing.key} ${oc.env:HOME} ${now:%Y-%m-%d} ${hydra:job.num}", 1: {2: "${1.2}"}, "c": None},
        {"a": [1, 2.5, "x", {"b": "${a[3]}"}], "d": "${a[9]} ${..a} ${"},
    ],
)
def test_what_refers_to_itself_or_to_nothing_is_left_to_omegaconf(config):
    check_expansion(config)
