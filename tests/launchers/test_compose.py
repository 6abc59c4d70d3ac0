"""Composing by patching equals Hydra's composing."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reglab.config.hydra_context import hydra_config
from reglab.config.job_request import JobRequest
from reglab.launchers.compose import Composer, job_config, located

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


def test_resolved_is_what_hydra_composes_as_plain_containers(hydra, master, composer):
    for overrides in [*OVERRIDES, ["folder=${act}/x", "+new.same=${optimizer.lr}"]]:
        expected = OmegaConf.to_container(hydra.config_loader.load_sweep_config(master, overrides), resolve=False)
        expected = OmegaConf.to_container(
            OmegaConf.create({k: v for k, v in expected.items() if k != "hydra"}), resolve=True
        )
        del expected["sweep"]
        assert composer.resolved(overrides) == expected


@pytest.mark.parametrize("wrong", [["data=table"], ["folder=${nowhere}"], ["optimizer.lrr=1"], ["seed=[1"]])
def test_resolving_raises_what_is_wrong(composer, wrong):
    with pytest.raises((OmegaConfBaseException, HydraException)):
        composer.resolved(wrong)


def test_bases_are_composed_once(hydra, master, composer):
    composer.compose(["optimizer=sgd"])
    shared = Composer(None, master, composer.bases)
    shared.loader = hydra.config_loader
    shared.master = None  # composing anew would need it
    assert shared.compose(["optimizer=sgd", "seed=4"]).seed == 4


@pytest.mark.parametrize("subdir", ["${hydra.job.num}", "job-${hydra.job.num}-${hydra.job.override_dirname}"])
def test_a_lean_config_is_the_same_job_in_the_same_folder(hydra, conf, subdir):
    (conf / "hydra/output/here.yaml").write_text(
        f"# @package hydra\nsweep: {{dir: 'out/${{now:%Y}}', subdir: '{subdir}'}}\n"
    )
    master = hydra.compose_config("train", [], RunMode.MULTIRUN, with_log_configuration=False)
    request = JobRequest(7, ("optimizer=sgd", "optimizer.lr=3"))
    whole, lean = (job_config(Composer(hydra.config_loader, master), request, lean) for lean in (False, True))
    with hydra_config(whole):
        folder = Path(whole.hydra.sweep.dir, whole.hydra.sweep.subdir).absolute()
    assert folder == Path(lean.hydra.runtime.output_dir)
    assert located(Composer(hydra.config_loader, master), request) == replace(request, folder=folder)
    assert lean.hydra.overrides == whole.hydra.overrides
    assert lean.hydra.job == whole.hydra.job
    for key in whole:
        assert key == "hydra" or lean[key] == whole[key]
    OmegaConf.to_container(lean, resolve=True, throw_on_missing=True)
