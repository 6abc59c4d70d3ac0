"""Help texts of ``reglab`` and ``reglab train``, without importing Hydra or torch."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from reglab.cli import config_options

OVERVIEW = """\
reglab: which regularizer, how strongly, and why.

usage: reglab COMMAND [...]

  train [-m] [key=value ...]   train one model, or with -m a sweep          reglab train --help
  resume RUN|SWEEP             resume a run or sweep where it stopped       reglab resume --help
  predict RUN data.path=FILE   predict the rows of a file                   reglab predict --help
  test RUN [data.path=FILE]    measure it on its test part, or a file       reglab test --help
  export RUN [format=onnx]     write its model for other programs           reglab export --help
  register RUN name=NAME       register its model in MLflow                 reglab register --help
  report SWEEP                 write the report of a sweep again            reglab report --help
  rank-measures SWEEP [...]    which measures predict the gap of its runs   reglab rank-measures --help
  dashboard                    open MLflow's dashboard of your runs         reglab dashboard --help
  claims [NAME ...]            answer questions about regularization        reglab claims --help
  sync [FOLDER ...]            send to MLflow what it does not have yet     reglab sync --help
  clean [FOLDER ...]           show and free the disk space of runs         reglab clean --help
  completion bash|zsh|fish     print the shell's tab completion

  --version                    print the version
  --help                       print this

Start here:  reglab train experiment=overfit
"""

_TRAIN = """\
usage: reglab train [-m] [--config-dir FOLDER] [group=option ...] [key=value ...]

Trains a model under a list of regularizers, measures the overfitting gap and the weights, and keeps both in MLflow.

  -m, --multirun         a sweep: every combination of the values given as a,b,c
  -cd, --config-dir      a folder with your own options: FOLDER/regularizer/mine.yaml becomes regularizer=mine
  -c, --cfg job          print the composed configuration and stop (--resolve fills in ${...})
  -h, --help             print this
"""

_KEYS = """\
Keys that are set most often
  seed=0                               data.train_size=300           data.batch_size=32
  data.label_noise=0.1                 optimizer.lr=1e-3             trainer.max_epochs=60
  regularizer.NAME.strength=1e-4       tracking.uri=sqlite:///...    tracking.experiment=...
  hydra/launcher=fused|local|process   hydra.launcher.workers=2      sweep.dry=true

Values of a sweep
  a,b,c   range(1,5)   linear(low,high,n)   log(low,high,n)   sweep.seeds=3   sweep.blocks=[{...},{...}]

Examples
  reglab train model=mlp regularizer=[l1,dropout] regularizer.l1.strength=1e-4
  reglab train -m regularizer=[l2] 'regularizer.l2.strength=log(1e-5,1e-1,8)' sweep.seeds=3
  reglab train -m 'sweep.blocks=[{regularizer:[]},{regularizer:[l1],regularizer.l1.strength:log(1e-5,1e-2,8)}]'
  reglab train experiment=overfit data.train_size=150
  reglab train data=table data.path=mine.csv data.target=price

Tab completes groups, options and keys: reglab completion bash|zsh|fish. HYDRA_FULL_ERROR=1 shows tracebacks.
"""


def train_help(folders: Sequence[Path]) -> str:
    """Return the help of ``reglab train`` with the groups and options in ``folders``."""
    chosen = config_options.defaults(folders)
    lines = [_group(folders, group, chosen.get(group, [])) for group in config_options.groups(folders)]
    return "\n".join([_TRAIN, "Groups and their options (* = default)", *lines, "", _KEYS])


def _group(folders: Sequence[Path], group: str, chosen: Sequence[str]) -> str:
    options = [f"{option}*" if option in chosen else option for option in config_options.options(folders, group)]
    return textwrap.fill(" ".join(options), width=110, initial_indent=f"  {group:<20} ", subsequent_indent=" " * 23)
