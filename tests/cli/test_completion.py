"""Tab completion, and the catalogue that it reads."""

import shutil
import subprocess

import pytest

from reglab.cli import config_options
from reglab.cli.completion import complete
from reglab.cli.completion_scripts import SCRIPTS


@pytest.mark.parametrize(
    "line, expected",
    [
        ("reglab tr", ["train"]),
        ("reglab completion ", ["bash", "fish", "zsh"]),
        ("reglab train --mu", ["--multirun"]),
        ("reglab train opt", ["optimizer.", "optimizer="]),
        ("reglab train optimizer=", ["optimizer=adam", "optimizer=sgd"]),
        ("reglab train -m optimizer=adam,s", ["optimizer=adam,sgd"]),
        ("reglab train regularizer=l", ["regularizer=l1", "regularizer=l2"]),
        ("reglab train regularizer=[l1,dr", ["regularizer=[l1,dropout"]),
        ("reglab train regularizer=[l1,l", ["regularizer=[l1,l2"]),
        ("reglab train optimizer.l", ["optimizer.lr="]),
        ("reglab train optimizer.m", []),
        ("reglab train optimizer=sgd optimizer.m", ["optimizer.momentum="]),
        ("reglab train regularizer=[l2] regularizer.", ["regularizer.l2."]),
        ("reglab train -m regularizer=[l1],[l1,l2] regularizer.l2.", ["regularizer.l2.strength="]),
        ("reglab train sweep.s", ["sweep.seeds="]),
        ("reglab train ++se", ["++seed="]),
        ("reglab train data=table data.", ["data.name=", "data.path="]),
        ("reglab train seed=1", []),
        ("reglab train experiment=", ["experiment=study"]),
        ("reglab dashboard ", []),
    ],
)
def test_complete(conf, line, expected):
    assert complete(line, [conf]) == expected


def test_a_users_folder_adds_options(conf, tmp_path):
    mine = tmp_path / "mine"
    (mine / "regularizer").mkdir(parents=True)
    (mine / "regularizer" / "lasso.yaml").write_text("lasso: {strength: 1}\n")
    for flag in (f"--config-dir {mine}", f"--config-dir={mine}", f"-cd {mine}"):
        assert complete(f"reglab train {flag} regularizer=la", [conf]) == ["regularizer=lasso"]
        line = f"reglab train {flag} regularizer=[lasso] regularizer.lasso."
        assert complete(line, [conf]) == ["regularizer.lasso.strength="]


def test_the_catalogue_reads_descriptions_and_includes(conf):
    assert config_options.options([conf], "optimizer") == {"adam": "", "sgd": "Plain steps."}
    (conf / "data/_common.yaml").write_text("batch_size: 1\n")
    (conf / "data/wine.yaml").write_text("defaults: [_common, _self_]\nname: wine\n")
    keys = config_options.keys([conf], {"data": ["wine"]})
    assert [key for key in keys if key.startswith("data.")] == ["data.batch_size", "data.name"]
    assert "_common" not in config_options.options([conf], "data")


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_the_scripts_are_read_by_their_shells(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell])
    subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_gets_what_follows_the_last_word_break(tmp_path):
    fake = tmp_path / "reglab"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" regularizer=[l1,dropout regularizer=[l1,drip\n')
    fake.chmod(0o755)
    program = f"""
{SCRIPTS["bash"]}
compopt() {{ :; }}
COMP_LINE='reglab train regularizer=[l1,dr'; COMP_POINT=${{#COMP_LINE}}
_reglab; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )
    assert done.stdout.split() == ["[l1,dropout", "[l1,drip"]
