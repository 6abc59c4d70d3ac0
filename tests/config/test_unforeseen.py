"""Errors that no check foresaw are one sentence; those of the user's own code stay what they are."""

import sys
from pathlib import Path

import pytest

from reglab.config import trust
from reglab.config.unforeseen import value_errors_as_user_errors
from reglab.core.errors import UserError


@pytest.mark.parametrize("error", [TypeError("a"), KeyError("a"), OverflowError("a"), MemoryError("a"), ValueError()])
def test_what_a_value_causes_is_told(error: Exception) -> None:
    message = rf"^the file cannot be used: {type(error).__name__}.*HYDRA_FULL_ERROR"
    with pytest.raises(UserError, match=message), value_errors_as_user_errors("the file"):
        raise error


@pytest.mark.parametrize("error", [OSError("a"), KeyboardInterrupt(), UserError("a")])
def test_what_is_no_value_s_fault_is_raised(error: BaseException) -> None:
    with pytest.raises(type(error)), value_errors_as_user_errors("the file"):
        raise error


def test_an_error_of_the_users_own_code_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets_here.py").write_text("def build():\n    return {}['width']\n")
    monkeypatch.syspath_prepend(tmp_path)
    import my_nets_here  # type: ignore[import-not-found]  # written above

    with trust.isolated():
        with pytest.raises(UserError), value_errors_as_user_errors("the file"):
            my_nets_here.build()
        trust.trust("my_nets_here")
        with pytest.raises(KeyError, match="width"), value_errors_as_user_errors("the file"):
            my_nets_here.build()
    del sys.modules["my_nets_here"]
