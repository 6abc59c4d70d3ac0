"""Every key of ``conf``, by discovery, with values of a stranger: taken, or told in one sentence before anything acts.

Nothing is imported or built by a value, nothing is written, no secret is kept, and no error but UserError comes out.
"""

import copy
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from reglab.config.paths import conf_dir
from reglab.config.validate import check_config
from reglab.core import secrets
from reglab.core.errors import UserError
from reglab.tracking import TrackingSettings
from reglab.training.check import check_experiment
from reglab.training.prepare import prepare_job
from training.job_case import config

SECRET = "sentinel-Qx7-secret"
TARGET = {"_target_": "lurking.mark", "path": "ran"}
# What no key takes; the rest may be right for some.
NEVER: dict[str, Any] = {
    "a nested target": TARGET,
    "a target in a list": [TARGET],
    "a number of 400 digits": 10**400,
    "a text of 1 MB": "x" * 1_000_000,
    "a null character": "a\0b",
    "a lone surrogate": "\ud800",
}
ODD: dict[str, Any] = {
    "a path above": "../../outside/x",
    "a path elsewhere": "/tmp/reglab-hostile",
    "a secret": "${oc.env:A_SECRET}",
    "a second line": "a\nreglab: everything is fine",
    "escapes": "\x1b[2J\x1b]0;t\x07x",
    "a mapping": {"a": 1},
    "an infinity": math.inf,
    "no number": math.nan,
    "-0": -0.0,
    "-1": -1,
    "a truth": True,
    "nothing": "",
    "half": 1.5,
    "markup": "<script>alert(1)</script>",
}
SKIPPED = ("experiment", "debug", "hydra")
# Another package, device or file, or a class of the user's.
NEEDS = ("timm", "transformers", "custom", "fsdp", "gpu", "image_folder", "table", "lightning", "own")


def keys(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from keys(value, f"{prefix}{key}.")
        yield f"{prefix}{key}"


def discovered() -> dict[str, tuple[str, ...]]:
    """Return each key with the words that choose the option which has it."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted([*conf_dir().glob("*/*.yaml"), conf_dir() / "train.yaml"]):
        group, option = path.parent.name, path.stem
        content = yaml.safe_load(path.read_text()) or {}
        content.pop("defaults", None)
        if path.parent == conf_dir():
            found |= dict.fromkeys(keys(content), ())
        elif group not in SKIPPED and option not in NEEDS and not (group == "tracking" and option != "none"):
            chosen = f"{group}=[{option}]" if group == "regularizer" else f"{group}={option}"
            words = () if option.startswith("_") else (chosen,)
            found = {f"{group}.{key}": words for key in keys(content)} | found
    return found


KEYS = discovered()
GROUPS = sorted({key.partition(".")[0] for key in KEYS})
composed_of = cache(config)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A_SECRET", SECRET)
    (tmp_path / "lurking.py").write_text("open('ran', 'w').close()\ndef mark(path): open(path, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with secrets.isolated():
        yield tmp_path
    assert os.listdir(tmp_path) == ["lurking.py"]  # noqa: PTH208 - names alone


def hostile(words: tuple[str, ...], key: str, value: Any) -> DictConfig:
    composed = copy.deepcopy(composed_of("tracking=none", *words))
    OmegaConf.set_struct(composed, False)
    OmegaConf.update(composed, key, value, merge=False, force_add=True)
    return composed


def told(composed: DictConfig) -> str | None:
    """Do all that a command does before it opens a run; return what the user is told, None if it is taken."""
    try:
        check_config(composed)
        prepared = prepare_job(composed)
        TrackingSettings.from_config(prepared.job["tracking"])
        check_experiment(prepared.experiment)
    except UserError as error:
        return str(error)
    return None


def test_keys_are_found() -> None:
    assert len(KEYS) > 100
    assert {"trainer.checkpoint_seconds", "measure.level", "data.batch_size", "sweep.blocks", "seed"} <= {*KEYS}


@pytest.mark.parametrize("group", GROUPS)
def test_what_no_key_takes_is_refused(folder: Path, group: str) -> None:
    values = itertools.cycle(NEVER.items())
    for key in (key for key in KEYS if key.partition(".")[0] == group):
        what, value = next(values)
        said = told(hostile(KEYS[key], key, value))
        assert said is not None, f"{key} takes {what}"
        assert len(said) < 5_000, (key, what)


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_odd_is_taken_or_told(folder: Path, group: str) -> None:
    values = itertools.cycle(ODD.items())
    for key in (key for key in KEYS if key.partition(".")[0] == group):
        for what, value in itertools.islice(values, 2):
            said = told(hostile(KEYS[key], key, value)) or ""
            assert SECRET not in said, (key, what)
            assert "\nreglab:" not in said, (key, what)
