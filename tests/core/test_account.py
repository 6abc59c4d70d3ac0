"""A user id without an account, as containers have it."""

import getpass
import os
import pwd
from pathlib import Path

import pytest

from reglab.core.account import ensure_account


def test_a_user_id_without_an_account_has_a_name_and_a_home(monkeypatch):
    def unknown(*_):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError):
        Path.home()
    ensure_account()
    assert getpass.getuser() == os.environ["USER"] == str(os.getuid())
    assert Path.home() == Path("/")  # not a folder that others can write, where they could leave a .netrc


def test_what_is_set_stays(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("USER", raising=False)
    ensure_account()
    assert "USER" not in os.environ
    assert Path.home() == Path("/home/ada")
