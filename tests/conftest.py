"""One thread a test process: the tensors are tiny, and threads that wait for each other spin."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# A shell's background command has SIGINT ignored, and so have its children: tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _preload(names: Sequence[str]) -> None:
    """Preload what reglab's launchers do: a test process has one fork server, and keeps the first that a test starts.

    One that had imported nothing would leave ten seconds of imports to each child of all later sweeps.
    """
    needed = ("reglab.training.job", "reglab.tracking.mlflow.runs", "sklearn.datasets")
    forkserver._forkserver.set_forkserver_preload([*names, *needed])


forkserver.set_forkserver_preload = _preload


def _writers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "reglab-sender"}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh store, whose migrations cost seconds: one for all test processes of a run, copied for each test."""
    from reglab.tracking.mlflow.store import prepare

    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    prepare(folder / "template" / "reglab.db")  # one process makes it, the others wait
    return folder / "template" / "reglab.db"


@pytest.fixture(autouse=True)
def no_writer_outlives_its_test() -> Iterator[None]:
    """Stop the background writers of runs that a test left open, as their process's death would.

    One that lived on would send into what a later test has put in the place of the store.
    """
    before = _writers()
    yield
    for thread in _writers() - before:
        if target := getattr(thread, "_target", None):  # what a thread runs stands in no public place
            target.__self__._stopped.set()
            thread.join(5)


def _forget_variables() -> None:
    for name in [
        name for name in os.environ if name.startswith(("MLFLOW_TRACKING_", "MLFLOW_EXPERIMENT_", "PL_TRAINER_"))
    ]:
        del os.environ[name]


_forget_variables()  # tests have stores of their own


@pytest.fixture(autouse=True)
def no_variable_outlives_its_test() -> Iterator[None]:
    """Forget the variables that MLflow's ``set_tracking_uri``, which Lightning's logger calls, sets."""
    yield
    _forget_variables()


@pytest.fixture(autouse=True)
def no_named_store_outlives_its_test() -> Iterator[None]:
    """Forget which stores the user of a test named."""
    from reglab.tracking import store_gate

    with store_gate.isolated():
        yield


@pytest.fixture(autouse=True)
def no_signal_outlives_its_test() -> Iterator[None]:
    """Forget that a signal asked training to end: what a later test trains without listening would end at once."""
    yield
    if signals := sys.modules.get("reglab.core.signals"):
        with signals.handle_signals():  # begins with none
            pass


@pytest.fixture(autouse=True)
def no_config_of_hydra_outlives_its_test() -> Iterator[None]:
    """Forget the configuration that a command left behind which failed as Hydra began its job."""
    module = sys.modules.get("hydra.core.hydra_config")
    before = module.HydraConfig.instance().cfg if module else None
    yield
    if module := sys.modules.get("hydra.core.hydra_config"):
        module.HydraConfig.instance().cfg = before


@pytest.fixture(autouse=True)
def no_log_file_outlives_its_test() -> Iterator[None]:
    """Drop and close the log files of jobs: one that is collected later warns in another test.

    A closed one that a logger still has would be opened again by the next record.
    """
    yield
    for logger in (logging.getLogger(), *logging.getLogger().manager.loggerDict.values()):
        for handler in list(getattr(logger, "handlers", ())):
            if isinstance(handler, logging.FileHandler) and handler.baseFilename.endswith(".log"):
                logger.removeHandler(handler)
                handler.close()


@pytest.fixture(autouse=True)
def no_handler_outlives_its_stream() -> None:
    """Drop log handlers that an earlier test configured (as Hydra does) on a captured stream that is closed by now."""
    for logger in (logging.getLogger(), logging.getLogger("reglab")):
        for handler in list(logger.handlers):
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)
