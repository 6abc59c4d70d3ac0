"""What a composed config must pass before Hydra acts on it.

What is refused in training itself: tests/security.
"""

import re

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from reglab.config import trust
from reglab.config.paths import conf_dir
from reglab.config.validate import check_config, check_secrets
from reglab.core.errors import UserError


@pytest.fixture(autouse=True)
def nothing_trusted():
    with trust.isolated():
        yield


@pytest.fixture(scope="module")
def loader():
    """Hydra as the command line has it."""
    path = create_config_search_path(str(conf_dir()))
    yield Hydra.create_main_hydra2("reglab", path)
    GlobalHydra.instance().clear()


def composed(loader, *overrides):
    return loader.compose_config("train", list(overrides), RunMode.MULTIRUN, validate_sweep_overrides=False)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("hydra/launcher=basic",),
        ("hydra/job_logging=default", "hydra/hydra_logging=default", "hydra.verbose=true"),
        ("hydra/job_logging=disabled", "hydra/hydra_logging=none"),
        ("+hydra.callbacks.info._target_=hydra.experimental.callbacks.LogJobReturnCallback",),
        ("hydra.sweep.subdir='${hydra.job.num}_${seed}'", "hydra.output_subdir=null", "hydra.job.name=mine"),
        ("+hydra.job_logging.handlers.rich.class=rich.logging.RichHandler",),
        ("tracking.uri=http://127.0.0.1:5000", "+data.url='${oc.env:A_URL}'", "+model.token='${oc.env:A_TOKEN}'"),
        ("+model.pad_token=x", "+model.max_tokens=5", "+model.use_token=false", "+model.token=null"),
        ("+hydra.job.env_set={OMP_NUM_THREADS: '2'}",),
        ("trust=[my_package]", "hydra.launcher.preload=[my_package.nets,reglab.training.job]"),
    ],
)
def test_what_people_configure_passes(loader, monkeypatch, overrides):
    monkeypatch.setenv("A_TOKEN", "s3cr3t-t0ken")
    trust.trust("my_package")
    check_config(composed(loader, *overrides))


@pytest.mark.parametrize("name", ["a\0b", "caf\udce9"])
def test_what_is_no_text_is_refused(loader, name):
    config = composed(loader)
    config.name = name
    with pytest.raises(UserError, match=r"^name='(a\\x00b|caf\\udce9)' is not valid text"):
        check_config(config)


def test_a_secret_in_a_file_is_refused_too(loader):
    with pytest.raises(UserError, match=r"x\.password holds a literal secret"):
        check_config(composed(loader, "+x.password=abc"))


@pytest.mark.parametrize(
    "override, key",
    [
        ("data.api_key=abc", "data.api_key"),
        ("+x.password='a b'", "x.password"),
        ("+x={inner: {hf_token: abc}, n: 1}", "x.inner.hf_token"),
        ("++x.token=12345", "x.token"),
        ("x.secret=a,b", "x.secret"),
        ("x.secret=choice(a,b)", "x.secret"),
        ("+x.passwd=abc(", "x.passwd"),
        ("sweep.blocks=[{regularizer: [], x.password: abc}]", "sweep.blocks.x.password"),
        ("hydra.job.env_set.WANDB_API_KEY=abc", "hydra.job.env_set.WANDB_API_KEY"),
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(override, key):
    with pytest.raises(UserError) as refused:
        check_secrets(["seed=3", override])
    name = key.rpartition(".")[2].upper()
    assert str(refused.value).startswith(f"{key} holds a literal secret")
    assert str(refused.value).endswith(f"give +{key}='${{oc.env:{name}}}'")
    assert not re.search(r"abc|12345|a b", str(refused.value))


@pytest.mark.parametrize(
    "override",
    ["tracking.uri=http://me:pa55@host", "tracking.uri=https://pa55@host", "+data.url='https://me:pa55@host/x.csv'"],
)
def test_a_password_in_a_url_is_refused(override):
    with pytest.raises(UserError, match=r"^\S+ holds a URL with a name or password.*oc\.env:NAME") as refused:
        check_secrets([override])
    assert "pa55" not in str(refused.value)


def test_interpolations_and_what_only_sounds_alike_pass():
    check_secrets(
        ["+x.token='${oc.env:A_TOKEN}'", "+x.url='https://me:${oc.env:PW}@host'", "model.pad_token=x", "seed"]
    )
    check_secrets(["+x.password=null", "~x.password", "+x.use_token=true", "regularizer=[l1]", "seed=1,2"])


@pytest.mark.parametrize("key", ["hydra.job_logging.root.level", "hydra/launcher", "+hydra.callbacks.a._target_"])
def test_jobs_of_a_sweep_cannot_bring_settings_of_hydra(loader, key):
    for where, given in (("sweep.blocks", [{key: "x"}]), ("hydra.sweeper.params", {key: "x"})):
        config = composed(loader)
        OmegaConf.update(config, where, given, merge=False, force_add=True)
        with pytest.raises(UserError, match=r"sweep\.blocks: .*hydra.* is a setting of the whole sweep"):
            check_config(config)


@pytest.mark.parametrize(
    "override",
    [
        "hydra.job.name=../../x",
        "hydra.job.name=a/b",
        "hydra.sweep.subdir=../x",
        "hydra.sweep.subdir=/tmp/x",
        "hydra.output_subdir=../x",
        "hydra.output_subdir='a\tb'",
        "hydra.run.dir='a\x1bb'",
        "hydra.sweep.subdir='${oc.env:A_TOKEN}'",
    ],
)
def test_names_of_hydra_stay_in_the_runs_folder(loader, monkeypatch, override):
    monkeypatch.setenv("A_TOKEN", "s3cr3t-t0ken")
    with pytest.raises(
        UserError, match=r"leads out of the run's folder|leave out slashes|='a.*folder names|='\*+'.*folder names"
    ):
        check_config(composed(loader, override))
