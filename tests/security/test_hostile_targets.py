"""What a configuration may not name is refused before it is imported: on the command line, in files, in checkpoints."""

import contextlib
import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from reglab import data, load
from reglab.cli import train
from reglab.config import trust
from reglab.config.objects import build_arguments
from reglab.config.paths import conf_dir
from reglab.config.validate import check_config
from reglab.core.errors import UserError
from reglab.training import checkpoint_files, describe
from reglab.training.check import check_experiment
from reglab.training.job import run_job
from reglab.training.prepare import build_experiment
from training.job_case import config

# The first are of the attacker's own package; those after it nothing here imports: whoever does is found out.
TARGETS = (
    *("lurking.Net", "lurking.inner.Net"),
    *("antigravity.fly", "this.s", "turtle.Turtle", "idlelib.run.main", "imaplib.IMAP4", "poplib.POP3", "cProfile.run"),
    *(
        "lib2to3.main.main",
        "nntplib.NNTP",
        "telnetlib.Telnet",
        "xmlrpc.server.SimpleXMLRPCServer",
        "wsgiref.handlers.X",
    ),
    *("os.system", "posix.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "builtins.open", "pty.spawn"),
    *("pickle.Unpickler", "pickle.loads", "shelve.open", "runpy.run_path", "importlib.import_module", "ctypes.CDLL"),
    *("joblib.load", "pandas.read_pickle", "numpy.load", "mlflow.pyfunc.load_model", "hydra.utils.instantiate"),
    *("torch.load", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "torch.fx.GraphModule"),
    *("torch.utils.cpp_extension.load", "torch.serialization.pickle.Unpickler", "torch.nn.modules.os.system"),
    *("torchmetrics.text.BERTScore", "reglab.__main__.main", "reglab.tracking.git.subprocess.run", "lightning.x.Y"),
)
SLOTS = ("model", "optimizer", "scheduler", "regularizer.it", "callbacks.it")
NEVER = {"lurking", "antigravity", "turtle", "idlelib", "imaplib", "poplib", "lib2to3", "nntplib", "telnetlib"}
HANDLER, CALLBACK = "handlers.console", "hydra.experimental.callbacks.LogJobReturnCallback"
HYDRA = {
    "callbacks.it": [{"_target_": target} for target in (*TARGETS[:6], "reglab.regularizers.L1", "reglab.load")]
    + [
        {"_target_": CALLBACK, "x": {"_target_": "lurking.Net"}},
        {"_target_": CALLBACK, "x": [{"_target_": "os.system"}]},
    ],
    "launcher._target_": ["lurking.Net", "hydra_plugins.reglab_plugins.sweeper.BlocksSweeper", "os.system"],
    "launcher.compile": [{"_target_": "lurking.Net"}, {"deep": [{"_target_": "os.system", "command": "ls"}]}],
    "launcher.preload": [["lurking"], ["reglab.training.job", "antigravity"]],
    "sweeper._target_": ["subprocess.Popen", "hydra_plugins.reglab_plugins.launcher.LocalLauncher"],
    f"job_logging.{HANDLER}.class": ["lurking.Handler", "logging.Formatter", "${oc.env:A_HANDLER}", "torch.nn.Linear"],
    f"hydra_logging.{HANDLER}.class": ["lurking.Handler", "logging.handlers.os.system"],
    f"job_logging.{HANDLER}.()": ["lurking.make", "os.system", "logging.os.system", "logging.getLogger"],
    f"job_logging.{HANDLER}.stream": ["ext://lurking.stream", "ext://logging.os.system", "ext://${oc.env:A_HANDLER}"],
    f"job_logging.{HANDLER}.filters": [["ext://os.system"], [{"()": "lurking.make"}]],
    f"job_logging.{HANDLER}.queue": ["lurking.queue", {"()": "lurking.make"}],
    "job_logging.formatters.terminal.()": ["lurking.make"],
    "job_logging.filters.it.()": ["lurking.make"],
    "job_logging.loggers.it.handlers": [["ext://lurking.handler"]],
}


@pytest.fixture
def lurking(tmp_path, monkeypatch) -> Iterator[Path]:
    """Give the file that is there once the attacker's package was imported."""
    trace = tmp_path / "imported"
    (tmp_path / "lurking" / "inner").mkdir(parents=True)
    text = f"open({str(trace)!r}, 'w').close()\nfrom torch import nn\nclass Net(nn.Module):\n    pass\n"
    (tmp_path / "lurking" / "__init__.py").write_text(text)
    (tmp_path / "lurking" / "inner" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("A_HANDLER", "lurking.Handler")
    monkeypatch.chdir(tmp_path)
    with trust.isolated():
        yield trace


@pytest.fixture
def hydra():
    """Hydra as the command line has it."""
    yield Hydra.create_main_hydra2("reglab", create_config_search_path(str(conf_dir())))
    GlobalHydra.instance().clear()


def tops() -> set[str]:
    return {name.partition(".")[0] for name in sys.modules}


def test_no_slot_takes_what_is_not_trusted(lurking):
    composed = config("tracking=none", "trainer.max_epochs=1")
    run_job(composed)  # what a job imports by itself
    job, before = describe.plain(composed), tops()
    loaded = data.load(job["data"])
    for slot in SLOTS:
        for target in TARGETS:
            hostile = OmegaConf.create(job)
            OmegaConf.update(hostile, f"{slot}._target_", target, force_add=True)
            with pytest.raises(UserError, match=rf"^{slot}\._target_[= ]"):
                check_experiment(build_experiment(describe.plain(hostile), loaded, {}))
    assert tops() == before
    assert not tops() & NEVER
    assert not lurking.exists()


@pytest.mark.parametrize("partial", [False, True])
def test_no_nested_object_of_a_module_is_what_is_not_trusted(lurking, partial):
    before = tops()
    for target in TARGETS:
        with pytest.raises(UserError, match=r"^model\.net\._target_[= ]"):
            build_arguments({"net": {"_target_": target, "_partial_": partial}}, "model")
    assert not (tops() - before) & NEVER
    assert not lurking.exists()


def test_a_trusted_package_is_taken_and_a_config_trusts_none(lurking):
    composed = config("tracking=none", "model=custom", "model._target_=lurking.Net", "trust=[lurking]")
    with pytest.raises(UserError, match="lurking is not trusted"):
        run_job(composed)
    assert not lurking.exists()
    trust.trust("lurking")
    with pytest.raises(UserError, match=r"forward|outputs|inputs"):
        run_job(composed)
    assert lurking.exists()


def test_hydra_builds_nothing_that_is_not_trusted(lurking, hydra):
    composed, before = hydra.compose_config("train", [], RunMode.MULTIRUN), tops()
    for key, values in HYDRA.items():
        for value in values:
            hostile = copy.deepcopy(composed)
            OmegaConf.set_readonly(hostile.hydra, False)
            OmegaConf.update(hostile.hydra, key, value, merge=False, force_add=True)
            with pytest.raises(UserError, match=rf"^hydra\.{key.partition('.')[0]}\."):
                check_config(hostile)
    assert not (tops() - before) & NEVER
    assert not lurking.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["+hydra.callbacks.it._target_=lurking.Net"],
        ["-m", "hydra.launcher.compile={_target_: lurking.Net}"],
        ["-m", "hydra.launcher.preload=[lurking]"],
        [f"hydra.job_logging.{HANDLER}.class=lurking.Handler"],
        ["model._target_=lurking.Net"],
    ],
)
def test_nor_on_the_command_line(lurking, words):
    with pytest.raises(UserError, match=r"not trusted.*add trust=\[lurking\]|handlers may only be|give plain values"):
        train.train([*words, "tracking=none"])
    assert not lurking.exists()


def checkpoint(folder: Path, **nodes: object) -> Path:
    config = {"model": {"_target_": "reglab.models.Linear"}, "regularizer": {}, "seed": 0, "data": {"name": "wine"}}
    description = {"config": config | nodes, "input_shape": [13], "outputs": 3, "task": "classification"}
    path = folder / "hostile.ckpt"
    checkpoint_files.write({"state_dict": {}, "hyper_parameters": description}, path)  # whoever writes one can seal it
    return path


def test_a_checkpoint_cannot_bring_code_along(lurking):
    before = tops()
    for target in TARGETS:
        for nodes in ({"model": {"_target_": target}}, {"regularizer": {"it": {"_target_": target}}}):
            path = checkpoint(lurking.parent, trust=["lurking", "os", "torch"], **nodes)
            with pytest.raises(UserError, match=r"^(model|regularizer\.it)\._target_[= ]"):
                load(path)
    assert not (tops() - before) & NEVER
    assert not lurking.exists()


def test_a_pickled_checkpoint_runs_nothing(lurking):
    class Runs:
        def __reduce__(self):
            return eval, (f"open({str(lurking)!r}, 'w')",)

    path = lurking.parent / "pickled.ckpt"
    checkpoint_files.write({"state_dict": {}, "hyper_parameters": {"config": Runs()}}, path)
    with pytest.raises(UserError, match="cannot be read"):
        load(path)
    assert not lurking.exists()


@pytest.mark.parametrize(
    "key", ["model.width", "optimizer.betas", "regularizer.l1.where", "data.target", "measure.monitor"]
)
def test_what_is_nested_in_arguments_is_never_built(lurking, key):
    composed = config("tracking=none", "regularizer=[l1]")
    OmegaConf.update(composed, key, {"_target_": "lurking.Net"}, merge=False, force_add=True)
    with contextlib.suppress(Exception):  # however it is refused
        run_job(composed)
    assert not lurking.exists()
