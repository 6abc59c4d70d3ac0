"""Composing by patching equals Hydra's composing."""

import pytest
from omegaconf import OmegaConf

from reglab.sweeps.compose import Composer

OVERRIDES = [
    ["optimizer.lr=2"],
    ["optimizer.lr=3", "seed=5"],
    ["optimizer=sgd", "optimizer.momentum=0.9", "optimizer.lr=1e-3"],
    ["regularizer=[l1,dropout]", "regularizer.l1.strength=1e-4"],
    ["regularizer=[dropout,l1]", "regularizer.l1.strength=1e-4"],
    ["regularizer=[]", "+new.deep=[1,{a:b}]", "++optimizer.extra=1"],
    ["~optimizer.betas"],
    ["hydra.job.name=other", "seed=1"],
    ["+data@second=table", "second.path=x"],
    ["seed=1", "seed=2"],
    [],
]


@pytest.fixture
def composer(hydra, master):
    return Composer(hydra.config_loader, master)


def test_the_result_is_hydras(hydra, master, composer):
    for overrides in OVERRIDES:
        expected = OmegaConf.to_yaml(hydra.config_loader.load_sweep_config(master, overrides))
        for _ in range(2):  # the second time from what was composed before
            assert OmegaConf.to_yaml(composer.compose(overrides)) == expected


def test_jobs_do_not_share_their_configs(composer):
    first = composer.compose(["optimizer.lr=2"])
    first.optimizer.betas[0] = 0.0
    second = composer.compose(["optimizer.lr=3"])
    assert (first.optimizer.lr, second.optimizer.lr, second.optimizer.betas[0]) == (2, 3, 0.9)


@pytest.mark.parametrize("wrong", [["optimizer.lrr=1"], ["optimizer=adm"], ["~nothing"], ["seed=[1"], ["seed=1,2"]])
def test_the_errors_are_hydras(hydra, master, composer, wrong):
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever it is
        hydra.config_loader.load_sweep_config(master, wrong)
    with pytest.raises(type(expected.value)) as got:
        composer.compose(wrong)
    assert str(got.value) == str(expected.value)
