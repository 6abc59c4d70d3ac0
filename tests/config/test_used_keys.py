"""Keys that nothing reads are refused; the user's own act where a value refers to them."""

from contextlib import chdir
from pathlib import Path

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from reglab.cli.command import main
from reglab.config.paths import conf_dir
from reglab.config.used_keys import INSTEAD, ROOTS, check_used
from reglab.core.errors import UserError

NO_PRELOAD = "hydra.launcher.preload=[]"


@pytest.fixture(scope="module")
def loader() -> Hydra:
    made = Hydra.create_main_hydra2("reglab", create_config_search_path(str(conf_dir())))
    GlobalHydra.instance().clear()  # which a command sets for itself
    return made


def composed(loader: Hydra, *overrides: str) -> DictConfig:
    return loader.compose_config("train", list(overrides), RunMode.MULTIRUN, validate_sweep_overrides=False)


def test_the_roots_are_those_of_the_primary_config(loader: Hydra) -> None:
    assert {*composed(loader), "callbacks"} == ROOTS  # which no file has, and a user adds


@pytest.mark.parametrize("options", [(), ("experiment=overfit",), ("debug=quick",), ("hydra/launcher=basic",)])
def test_what_the_project_itself_composes_is_used(loader: Hydra, options: tuple[str, ...]) -> None:
    check_used(composed(loader, *options))


@pytest.mark.parametrize(
    "overrides",
    [
        ("+width=8", "model.width=${width}"),
        ("+study.width=8", "model.width=${study.width}"),
        ("+width=8", "model.width=${oc.select:width}"),
        ("+study=a", "name='run of ${study}'"),
        ("+study=a", "hydra.run.dir='runs/${study}'"),
        ("+a=8", "+b=${a}", "model.width=${b}"),
        ("+width=8", "model.width=${..width}"),
        ("+hydra.job.env_set.NO_COLOR=1",),
        ("+hydra.callbacks.a._target_=hydra.experimental.callbacks.LogJobReturnCallback",),
        ("hydra.launcher.workers=1",),
    ],
    ids=str,
)
def test_a_key_that_a_value_refers_to_is_used(loader: Hydra, overrides: tuple[str, ...]) -> None:
    check_used(composed(loader, *overrides))


@pytest.mark.parametrize(
    "overrides, message",
    [
        (("+loss=focal",), r"loss must be the dotted path of a function, such as package\.module\.name; got 'focal'"),
        (("+datamodule._target_=x.Y",), "a LightningDataModule is given by data=lightning"),
        (("+ckpt_path=x",), "reglab resume RUN"),
        (("+tags={a: b}",), "tracking.experiment"),
        (("+optimzer.lr=1",), "did you mean 'optimizer'"),
        (("+width=8",), "width is a key that nothing reads"),
        (("+width=8", "name='a width'"), "width is a key that nothing reads"),
        (("+width=8", "model.width=${data.width}"), "width is a key that nothing reads"),
        (("+width=8", "+widths=9", "model.width=${widths}"), "width is a key that nothing reads"),
        (("+paths.root=/x", "+paths.logs=${paths.root}/l"), "paths is a key that nothing reads"),
        (("+experiment.foo=1",), r"experiment\.foo is a key that nothing reads"),
        (("+hydra.foo=1",), r"hydra\.foo is a key that Hydra does not read"),
        (("+hydra.job.nam=1",), r"hydra\.job\.nam is a key that Hydra does not read: did you mean 'name'"),
    ],
    ids=str,
)
def test_a_key_that_nothing_reads_is_refused(loader: Hydra, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_used(composed(loader, *overrides))


@pytest.mark.parametrize("word", sorted(INSTEAD))
def test_words_of_other_frameworks_have_an_answer(loader: Hydra, word: str) -> None:
    assert word not in ROOTS
    with pytest.raises(UserError, match=f"^{word} is a key that nothing reads: "):
        check_used(composed(loader, f"+{word}=1"))


@pytest.mark.parametrize(
    "words, message",
    [
        (["+loss=focal"], "loss must be the dotted path of a function"),
        (["+criterion=focal", "--cfg", "job"], "criterion is a key that nothing reads"),
        (["-m", "+metric=f1,auc", NO_PRELOAD], "metric is a key that nothing reads"),
        (["-m", "sweep.blocks=[{+criterion: focal}]", NO_PRELOAD], "criterion is a key that nothing reads"),
        (["seed=1", "-m", "+metric=f1,auc", NO_PRELOAD], "metric is a key that nothing reads"),
        (["-m", "seed=0,1", "+sweep.foo=1", NO_PRELOAD], "sweep.foo is a key that nothing reads"),
        (["-m", "seed=0,1", "+hydra.launcher.worker=1", NO_PRELOAD], "no such setting; did you mean 'workers'"),
    ],
    ids=str,
)
def test_every_command_refuses_it(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chdir(tmp_path):
        assert main(["train", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "reglab.db").exists()


def test_a_swept_key_that_a_value_refers_to_makes_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", "+width=4,8", "model.width=${width}", "sweep.dry=true", "tracking=none", "data=wine", NO_PRELOAD]
    with chdir(tmp_path):
        assert main(["train", *words]) == 0
    assert "2 jobs" in capsys.readouterr().out
