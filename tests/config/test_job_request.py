"""A job's request: what Hydra's strings and configs hold of it comes back whole."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from reglab.config.job_request import (
    KEY,
    JobRequest,
    WarmStart,
    attach,
    decode,
    encode,
    from_tags,
    take,
    take_recorded,
    without_request,
)
from reglab.config.validate import check_config
from reglab.core.errors import UserError

ODD = [*"'\"\\$ {}[]()=,:;~@#%&*?!`|<>/.-+\t\n", "${oc.env:HOME}", "\\'", "é", "日本", "\udcff", "null", "a", "1", "''"]
NUMBER = "${hydra.job.num}"


def odd_text(draw: random.Random) -> str:
    return "".join(draw.choices(ODD, k=draw.randrange(12)))


def odd_request(draw: random.Random) -> JobRequest:
    start = WarmStart(draw.randrange(99), Path("/", odd_text(draw)), odd_text(draw))
    return JobRequest(
        draw.randrange(999),
        tuple(f"key{index}={odd_text(draw)}" for index in range(draw.randrange(4))),
        odd_text(draw),
        odd_text(draw),
        Path("/folder", odd_text(draw)),
        draw.choice([None, start]),
    )


def composed(overrides: list[str]) -> DictConfig:
    """Return what Hydra makes of these overrides."""
    config = OmegaConf.create({"hydra": {"sweep": {"subdir": NUMBER}}})
    OmegaConf.set_struct(config, True)
    ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(overrides), config)
    return config


@pytest.mark.parametrize("seed", range(200))
def test_a_request_comes_back_through_strings_and_configs(seed: int) -> None:
    draw = random.Random(seed)
    request = odd_request(draw)
    overrides = encode(request, draw.randrange(3), NUMBER)
    assert decode(overrides, 7) == request
    assert without_request(overrides)[: len(request.overrides)] == list(request.overrides)
    config = composed(overrides[len(request.overrides) :])  # as a launcher of Hydra's own composes it
    assert take(config) == replace(request, overrides=())
    assert KEY not in config
    assert take(config) is None
    assert take(attach(config, request)) == replace(request, overrides=())


@pytest.mark.parametrize("seed", range(50))
def test_a_request_comes_back_from_the_tags_of_its_run(seed: int) -> None:
    request = replace(odd_request(random.Random(seed)), parent="p")
    assert from_tags(request.tags()) == replace(request, overrides=(), folder=Path())


@pytest.mark.parametrize("request_", [JobRequest(3), JobRequest(3, ("seed=1",), block="b")])
def test_outside_of_a_sweep_there_is_no_request(request_: JobRequest) -> None:
    assert request_.tags() == {}
    assert from_tags({}) is from_tags({"reglab.job": "", "reglab.sweep": ""}) is None
    assert decode(["seed=1"], 4) == JobRequest(4, ("seed=1",))


@pytest.mark.parametrize(
    "subdir, position, expected",
    [
        (NUMBER, 5, NUMBER),  # the launcher counts as the sweep does
        (NUMBER, 0, "5"),
        (f"job's-{NUMBER}-${{now:%Y}}", 0, "job's-5-${now:%Y}"),
        ("${hydra.job.override_dirname}", 0, NUMBER),  # left as it is
    ],
)
def test_the_folder_has_the_number_in_the_sweep_however_a_launcher_counts(
    subdir: str, position: int, expected: str
) -> None:
    config = composed(encode(JobRequest(5), position, subdir))
    assert config.hydra.sweep._get_node("subdir")._value() == expected


def test_what_older_versions_recorded_is_read_and_taken_away() -> None:
    start = {"after": 2, "start": "/runs/2", "trail": "abc"}
    config = {"sweep": {"seeds": 3, "resume": None, "parent": "p", "block": "l1", "job": 4, **start}}
    assert take_recorded(config) == JobRequest(4, (), "p", "l1", start=WarmStart(2, Path("/runs/2"), "abc"))
    assert config == {"sweep": {"seeds": 3}}
    assert take_recorded(config) is take_recorded({}) is take_recorded({"sweep": None}) is None
    alone = OmegaConf.create({"sweep": dict.fromkeys(("parent", "block", "job", "after", "start", "trail", "resume"))})
    assert take_recorded(alone) is None
    assert alone.sweep == {}


def test_only_a_sweep_may_set_it() -> None:
    with pytest.raises(UserError, match="reglab_request is what a sweep tells its jobs: leave it out"):
        check_config(OmegaConf.create({KEY: "x"}))
