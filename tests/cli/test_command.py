"""The command: sub-commands, help, and errors in one message each."""

import re

import pytest

from reglab.cli.command import main
from reglab.config import trust
from reglab.config.paths import conf_dir
from reglab.tracking import last_status

# These sweeps never start; torch need not be imported for them.
NO_PRELOAD = "hydra.launcher.preload=[]"


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("train", "report", "dashboard", "completion"):
        assert re.search(rf"^  {command} ", text, re.MULTILINE)


def test_train_help_lists_every_group_and_option(capsys):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for file in conf_dir().glob("*/*.yaml"):
        if not file.name.startswith("_"):
            assert re.search(rf"^  {file.parent.name} ", text, re.MULTILINE)
            assert re.search(rf"\s{file.stem}\*?(\s|$)", text)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"reglab \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "words, message",
    [
        (["trian"], "did you mean 'train'"),
        (["completion", "tcsh"], "bash|zsh|fish"),
        (["train", "-m", "seed=0,1", "hydra/launcher=joblib"], "hydra/launcher=fused"),
        (["train", "-m", "seed=0,1", "hydra/launcher=submitit_slurm"], "on Slurm give srun reglab train"),
        (
            ["train", "-m", "seed=0,1", "hydra/sweeper=ax", "hydra.sweeper.params={a: 1}"],
            "hydra/sweeper=ax is not run here",
        ),
        (["train", "-m", "tracking=none", "optimizer.lr=glob(*)"], "no option of optimizer.lr matches"),
        (["train", "-m", "tracking=none", "sweep.blocks=[{regularizer: 'glob(*)'}]"], "stands on the command line"),
        (["train", "optimizer=adm"], "optimizer=adm: there is no such option; did you mean 'adam'? (valid: adadelta"),
        (["train", "optimizer.lrr=1"], "no key 'lrr' in optimizer; did you mean 'lr'?"),
        (["train", "trainer.max_steps=20"], "stands in no file: add it with a plus, +trainer.max_steps=..."),
        (["train", "trainer.fast_dev_run=true"], "trainer.fast_dev_run has no effect here: debug=quick"),
        (["train", "-m", NO_PRELOAD, "trainer.logger=a,b"], "trainer.logger has no effect here: every run is recorded"),
        (["train", "logger=wandb"], "logger is a key that nothing reads: every run is recorded by tracking="),
        (["train", "ckpt_path=x"], "reglab resume RUN continues a run"),
        (["train", "nothing=1"], "there is no key 'nothing'"),
        (["train", "regularizer=[l1,l22]"], "regularizer=l22: there is no such option; did you mean 'l2'?"),
        (["train", "regularizer=[l1]", "regularizer.l1.strenth=1"], "did you mean 'strength'?"),
        (["train", "regularizer.l1.strength=1"], "l1 is not chosen; choose it first, as in regularizer=[l1]"),
        (["train", "model=custom", "model._target_=torch.nn.Linear", "model.hidden=64"], "with +model.hidden=..."),
        (["train", "seed=1,2"], "add -m for a sweep"),
        (["train", "seed=[1"], "cannot read 'seed=[1'"),
        (["train", "seed"], "key=value"),
        (["train", "data.target=y (%)"], "type 'data.target=\"y (%)\"'"),
        (["train", "data.class_weight={>50K: 3}"], "'data.class_weight={\">50K\": 3}'"),
        (["train", "--hydra-help"], "no --hydra-help"),
        (["dashboard"], "Run something first"),
        (["train", "sweep.blocks=[{seed:1}]"], "add -m"),
        (["train", "--config-dir", "nowhere", "seed=1"], "no such folder"),
        (["sync", "--uri", "http://me:hunter2@host", "runs"], "http://host was given with a name or password"),
        (["report", "--uri", "http://me:hunter2@host", "x"], "set MLFLOW_TRACKING_USERNAME"),
        (["resume", "--uri", "http://me:hunter2@host", "x"], "set MLFLOW_TRACKING_USERNAME"),
        (["resume", "runs/nothing"], "there is no folder runs/nothing"),
        (["train", "-m", NO_PRELOAD, "optimizer.lrr=1,2"], "2 of 2 jobs cannot run, so none was started"),
        (["train", "-m", NO_PRELOAD, "seed=1,2", "optimizer.lrr=1"], "did you mean 'lr'?"),
        (["train", "-m", "seed=1,2", "hydra.launcher.alway=true"], "'alway' in hydra.launcher; did you mean 'always'?"),
        (["train", "-m", NO_PRELOAD, "regularizer.l1.strength=log(0,1,3)"], "both ends above 0"),
    ],
)
def test_wrong_use_is_one_message_without_a_traceback(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("reglab: ")
    assert "Traceback" not in told
    assert not list(tmp_path.iterdir())


def test_a_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="optimizer/adm"):
        main(["train", "optimizer=adm"])


def test_a_key_that_only_some_jobs_have_is_left_to_them(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "-m", NO_PRELOAD, "regularizer=[l1],[l1,l2]", "regularizer.l1.strength=0.1", "optimizer.lrr=1"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "2 of 2 jobs" in told
    assert "lrr" in told
    assert "strength" not in told.split("(jobs")[0]


def test_debug_quick_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "data=wine", "debug=quick", "trainer.accelerator=cpu", "tracking=none"]) == 0
    assert "FINISHED" in capsys.readouterr().out


def test_an_error_of_our_class_that_a_users_model_raises_is_a_failed_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("model=custom", "model._target_=training.raising.Net", "+model.what=UserError", "trust=[training]")
    with trust.isolated():
        code = main(["train", "data=wine", "trainer.accelerator=cpu", "tracking=none", "hydra.run.dir=out", *words])
    assert (code, last_status(tmp_path / "out")) == (1, "FAILED")
    assert capsys.readouterr().err.splitlines()[-1] == "reglab: of the model"
