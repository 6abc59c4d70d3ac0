"""When ``reglab train`` is one run and when a sweep."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode

from reglab.cli.run_mode import compose_command
from reglab.core.errors import UserError


def test_an_experiment_may_be_a_sweep_by_itself(hydra):
    mode, config = compose_command(hydra, "train", ["experiment=study"], False)
    assert mode == config.hydra.mode == RunMode.MULTIRUN
    assert "hydra.mode=MULTIRUN" not in config.hydra.overrides.hydra


def test_a_sweep_on_the_command_line_tells_its_jobs_by_hydras_own_override(hydra):
    mode, config = compose_command(hydra, "train", ["seed=0,1"], True)
    assert mode == config.hydra.mode == RunMode.MULTIRUN
    assert list(config.hydra.overrides.hydra) == ["hydra.mode=MULTIRUN"]
    assert list(config.hydra.overrides.task) == ["seed=0,1"]


def test_one_run_of_such_an_experiment_is_asked_for_by_its_mode(hydra):
    overrides = ["experiment=study", "regularizer=[l1]", "hydra.mode=RUN"]
    mode, config = compose_command(hydra, "train", overrides, False)
    assert mode == config.hydra.mode == RunMode.RUN
    assert list(config.hydra.overrides.task) == overrides[:2]


def test_blocks_without_a_sweep_are_told_what_is_missing(hydra):
    with pytest.raises(UserError, match=r"sweep\.blocks describes a sweep: add -m"):
        compose_command(hydra, "train", ["sweep.blocks=[{regularizer: []}]"], False)


def test_several_values_without_a_sweep_are_refused_as_hydra_does(hydra):
    with pytest.raises(ConfigCompositionException, match="Ambiguous value"):
        compose_command(hydra, "train", ["seed=0,1"], False)


@pytest.mark.parametrize(
    "overrides, multirun", [(["seed=3"], False), (["seed=0,1"], True), (["experiment=study"], False)]
)
def test_a_command_that_is_right_is_composed_once(hydra, monkeypatch, overrides, multirun):
    calls = []
    load = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", lambda *a, **k: calls.append(a) or load(*a, **k))
    compose_command(hydra, "train", overrides, multirun)
    assert len(calls) == 1


def test_a_group_that_only_the_jobs_choose_may_be_missing(conf, hydra):
    (conf / "train.yaml").write_text((conf / "train.yaml").read_text().replace("optimizer: adam", "optimizer: ???"))
    assert compose_command(hydra, "train", ["optimizer=adam,sgd", "experiment=study"], False)[0] == RunMode.MULTIRUN
    with pytest.raises(ConfigCompositionException, match="You must specify 'optimizer'"):
        compose_command(hydra, "train", [], False)


@pytest.mark.parametrize(
    "override",
    ["sweep.seeds=3", "hydra.launcher.workers=1", "hydra/launcher=local", "hydra.sweep.dir=x"],
)
def test_what_is_about_sweeps_is_not_left_aside_by_one_run(hydra, override):
    with pytest.raises(UserError, match=r"is about sweeps, and this is one run: add -m"):
        compose_command(hydra, "train", [override], False)
    compose_command(hydra, "train", [override], True)
    compose_command(hydra, "train", ["experiment=study", override, "hydra.mode=RUN"], False)  # one run of a sweep


def test_what_is_about_one_run_is_not_left_aside_by_a_sweep(hydra):
    with pytest.raises(UserError, match=r"this is a sweep: give hydra\.sweep\.dir"):
        compose_command(hydra, "train", ["seed=0,1", "hydra.run.dir=x"], True)
