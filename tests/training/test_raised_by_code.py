"""What the code of a model or regularizer raises fails its run, and is named: nothing is swallowed or misread."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from reglab.config import trust
from reglab.core.errors import CodeFailed, UserError, is_recorded
from reglab.core.user_code import user_code
from reglab.training.fused.finalize import PackFinalizer, finalizing
from training import raising
from training.job_case import Case

MODEL = ("model=custom", "model._target_=training.raising.Net")


@pytest.fixture(autouse=True)
def trusted() -> Iterator[None]:
    with trust.isolated():
        trust.trust("training")
        yield


@pytest.mark.parametrize(
    "what, message",
    [
        ("StopIteration", "StopIteration: used up"),
        ("generator", "RuntimeError: generator raised StopIteration (StopIteration)"),
        ("GeneratorExit", "GeneratorExit: closed"),
        ("exit", "the code of the run called sys.exit(0)"),
        ("_exit", "the code of the run called os._exit(0)"),
        ("KeyboardInterrupt", "the code of the run raised KeyboardInterrupt (mine); nobody pressed Ctrl-C"),
        ("KeyError", "KeyError: 'lr'"),
        ("BrokenPipeError", "BrokenPipeError: [Errno 32] a pipe of the model"),
        ("ConnectionError", "ConnectionError: a service of the model"),
        ("TimeoutError", "TimeoutError: a service of the model"),
        ("EOFError", "EOFError: a file of the model"),
        ("FileNotFoundError", "FileNotFoundError: [Errno 2] No such file: 'vocabulary.txt'"),
        ("MemoryError", "MemoryError: too much"),
        ("UserError", "of the model"),
        ("AssertionError", "AssertionError: a shape"),
        ("surrogate", r"ValueError: name \udcff\x00"),
        ("long", "ValueError: " + "x" * 1_988 + " ..."),
        ("unreadable", "Unreadable: (its message cannot be read)"),
    ],
)
def test_a_model_that_raises_fails_its_run_with_what_it_raised(case: Case, what: str, message: str) -> None:
    with pytest.raises(Exception) as raised, user_code():  # noqa: PT011 - any, as long as it is one
        case.train(*MODEL, f"+model.what={what}")
    assert is_recorded(raised.value)
    (run,) = case.runs()
    assert (run.info.status, run.data.tags["reglab.message"]) == ("FAILED", message)


@pytest.mark.parametrize("member", ["InStep", "InMeasurement"])
def test_stop_iteration_of_a_regularizer_does_not_end_lightnings_loop(case: Case, member: str) -> None:
    with pytest.raises(CodeFailed, match="StopIteration: used up"):
        case.train(f"+regularizer.own._target_=training.raising.{member}")
    (run,) = case.runs()
    assert (run.info.status, run.data.tags["reglab.message"]) == ("FAILED", "StopIteration: used up")


def test_lightnings_own_class_of_errors_is_no_mistake_in_a_setting(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    monkeypatch.setitem(raising.ERRORS, "theirs", MisconfigurationException("of the model"))
    with pytest.raises(MisconfigurationException, match="of the model"):
        case.train(*MODEL, "+model.what=theirs")


def test_a_mistake_in_a_setting_is_not_marked_as_the_end_of_a_run(case: Case) -> None:
    with pytest.raises(UserError) as raised:
        case.train("optimizer.lr=0")
    assert not is_recorded(raised.value)


class Members:
    """Keeps how a pack's finalizer is told to end its jobs."""

    def __init__(self) -> None:
        self.told: tuple[str, str] = ("", "")

    def unfinished(self) -> list[int]:
        return [0, 1]

    def end_remaining(self, status: str, message: str) -> None:
        self.told = (status, message)


@pytest.mark.parametrize(
    "error, status, message",
    [
        (FileNotFoundError(2, "none"), "KILLED", "FileNotFoundError: [Errno 2] none: trained again in a smaller pack"),
        (OSError(28, "full"), "FAILED", "OSError: [Errno 28] full"),  # where a disk is full no job is to blame
        (CodeFailed(StopIteration("x")), "KILLED", "StopIteration: x: trained again in a smaller pack"),
    ],
)
def test_a_members_own_file_error_is_not_taken_for_a_full_disk(
    error: Exception, status: str, message: str, tmp_path: Path
) -> None:
    members = Members()
    with pytest.raises(type(error)), finalizing(cast(PackFinalizer, members), tmp_path):
        raise error
    assert members.told == (status, message)


def test_processes_that_a_model_forks_end_as_they_like() -> None:
    with user_code():
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_model_that_changes_the_working_folder_does_not_move_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    with user_code():
        os.chdir("other")
    assert Path.cwd() == tmp_path

    def leave() -> None:
        os.chdir("other")
        raise ValueError("a shape")

    with pytest.raises(ValueError, match="a shape"), user_code():
        leave()
    assert Path.cwd() == tmp_path
