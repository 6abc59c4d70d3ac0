"""Real runs with secrets in the environment: nothing that they leave or print holds one, however they end."""

import logging
import os
import shutil
import sys
import traceback
import urllib.parse
from pathlib import Path

import pytest

import forked
from reglab.cli import command as cli
from reglab.config import trust
from reglab.core import secrets
from training.job_case import SMALL, close

SECRETS = {"A_VALUE": "sentinel+one/of=three", "A_TOKEN": "qZ7#k", "MLFLOW_TRACKING_PASSWORD": "sentinel three&<3>",
           "SHORT": "hunter2", "WHICH": "A_VALUE"}  # fmt: skip
MODEL = """
import logging
from torch import nn
class Net(nn.Module):
    def __init__(self, inputs, outputs, value, token):
        super().__init__()
        self.layer, self.value = nn.Linear(inputs, outputs), value
        logging.getLogger(__name__).warning("made with %s", value)
        print("made with", token)
    def forward(self, inputs):
        if self.training and self.value.endswith("!"):
            raise RuntimeError(f"the service refused {self.value} at https://me:{self.value[:-1]}@host")
        return self.layer(inputs)
"""
WORDS = [
    *("data=wine", "model=custom", "model._target_=own_package.Net", "trust=[own_package]"),
    *("+model.token='${oc.env:A_TOKEN}'", *(word for word in SMALL if "model" not in word), "trainer.max_epochs=1"),
]
VALUE = "+model.value='${oc.env:A_VALUE}'"
NESTED = "+model.value='${oc.env:${oc.env:WHICH}}'"
MISSING = ["+model.value=x", "data=table", "data.path='${oc.env:A_VALUE}'", "data.target=y"]


def leaks(folder: Path, printed: str) -> list[str]:
    """Return where a secret stands, as it is or quoted."""
    values = [value for name, value in SECRETS.items() if name != "WHICH"]
    forms = {form.encode() for value in values for form in (value, urllib.parse.quote(value, safe=""))}
    files = [path for path in folder.rglob("*") if path.is_file()]
    places = {str(path): path.read_bytes() for path in files} | {"printed": printed.encode()}
    return [place for place, content in places.items() if any(form in content for form in forms)]


@pytest.fixture
def folder(tmp_path, template, monkeypatch):
    """A working folder with a package of the user's, and a process that knows no secret yet."""
    (tmp_path / "own_package.py").write_text(MODEL)
    shutil.copy(template, tmp_path / "reglab.db")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_package", raising=False)
    handlers, level = logging.root.handlers[:], logging.root.level
    with trust.isolated(), secrets.isolated():
        yield tmp_path
    for handler in set(logging.root.handlers) - set(handlers):
        handler.close()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    close(tmp_path)


@pytest.mark.parametrize(
    "words, full, code, said",
    [
        ([VALUE], "0", 0, "made with ***"),
        (MISSING, "0", 2, "data.path=***"),
        (MISSING, "1", 1, "data.path=***"),
        ([VALUE.replace("}'", "}!'")], "1", 1, "the service refused ***! at https://me:***@host"),
        (["--cfg=job", "--resolve", VALUE], "0", 0, "value: ***"),
        ([NESTED], "0", 0, "made with ***"),
        (["+model.value='${oc.env:NO_SUCH,${oc.env:A_VALUE}}'"], "0", 0, "made with ***"),
        (["+model.value='${oc.env:SHORT}'", "name='of ${oc.env:SHORT}'"], "0", 0, "made with ***"),
        (["+model.value=x", "name='run of ${oc.env:A_VALUE}'"], "0", 0, "made with x"),
        (["+model.value=x", "tracking.experiment='${oc.env:A_VALUE}'"], "0", 2, "tracking.experiment holds the value"),
        (["+model.value=x", "tracking.artifacts='s3://b/${oc.env:A_VALUE}'"], "0", 2, "tracking.artifacts holds the"),
        (["+model.value=x", "tracking.uri='http://127.0.0.1:9/${oc.env:SHORT}'"], "0", 2, "tracking.uri holds the"),
        (["+model.value=x", "hydra.run.dir='runs/${oc.env:SHORT}'"], "0", 2, "folder names may not hold secrets"),
        (["+model.value=x", "+optimizer.of='${oc.env:A_VALUE}'"], "0", 2, "optimizer.of holds the value"),
        (["+model.value=x", "scheduler=step", "scheduler.gamma='${oc.env:A_VALUE}'"], "0", 2, "scheduler.gamma"),
    ],
    ids=[
        *("finished", "refused", "refused, traceback", "raised", "shown", "nested", "default", "short", "name"),
        *("experiment", "artifacts", "store", "folder", "optimizer", "schedule"),
    ],
)
def test_no_secret_is_left_or_printed(folder, monkeypatch, capsys, words, full, code, said):
    monkeypatch.setenv("HYDRA_FULL_ERROR", full)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # given back afterwards
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    flags, words = ([word for word in words if (word[0] == "-") is flag] for flag in (True, False))
    try:
        status = cli.main(["train", *flags, *WORDS, *words])
    except Exception:  # noqa: BLE001 - shown as Python itself shows it at the end
        traceback.print_exc()
        status = 1
    captured = capsys.readouterr()
    printed = captured.out + captured.err
    assert leaks(folder, printed) == []
    assert (status, said in printed, "Traceback" in printed) == (code, True, full == "1"), printed


def test_no_secret_leaves_a_worker(folder):
    """A sweep of which one job finishes and one raises."""
    value = f"{NESTED},{VALUE.partition('=')[2].replace('}', '}!')}"
    named = "name='of ${oc.env:SHORT}'"
    words = ["train", "-m", *WORDS, value, named, "hydra.launcher.workers=1"]
    done = forked.run(["-m", "reglab", *words], cwd=folder, env={**os.environ, "HYDRA_FULL_ERROR": "1"})
    printed = done.stdout + done.stderr
    assert leaks(folder, printed) == []
    assert (done.returncode, "the service refused ***! at" in printed) == (1, True), printed
    assert list(folder.rglob("error.txt"))
    assert list(folder.rglob("best.ckpt"))
