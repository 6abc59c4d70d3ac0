"""Callbacks of the user's beside a LightningModule of the user's."""

import pytest

from reglab.core.errors import UserError
from training.job_case import Case
from training.lightning.module_case import Cut, Run, rows, state
from training.lightning.test_module_job import OWN

WATCH = "+callbacks.watch._target_=training.watching.Watch"
RATE = "+callbacks.lr._target_=lightning.pytorch.callbacks.LearningRateMonitor"


def test_they_watch_change_nothing_and_are_resumed(run: Run, case: Case) -> None:
    run(*OWN, folder="plain")
    run(*OWN, WATCH, RATE, folder="whole")
    with pytest.raises(Cut):
        run(*OWN, WATCH, RATE, cut=2)
    run(*OWN, WATCH, RATE)
    plain, whole = state(case.folder / "plain"), state(case.folder / "whole")
    assert all((plain[name] == whole[name]).all() for name in plain)
    assert rows(case.folder / "it") == rows(case.folder / "whole")
    added = rows(case.folder / "whole").keys() - rows(case.folder / "plain").keys()
    assert {key for key, _ in added} >= {"logged/watch/seen", "logged/watch/norm", "logged/lr-Adam"}


def test_one_that_would_act_is_refused_before_a_run_is_opened(run: Run, case: Case) -> None:
    with pytest.raises(UserError, match=r"give regularizer=\[early_stopping\]"):
        run(*OWN, "+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping", "+callbacks.stop.monitor=x")
    assert not (case.folder / "it").exists()
