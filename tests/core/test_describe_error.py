"""Errors in one line that every store takes."""

from reglab.core.describe_error import describe_error, storable
from reglab.core.errors import CodeFailed, Diverged


def test_type_and_message():
    assert describe_error(ValueError("a shape")) == "ValueError: a shape"
    assert describe_error(ValueError()) == "ValueError"


def test_our_own_errors_speak_for_themselves():
    assert describe_error(CodeFailed(StopIteration("x"))) == "StopIteration: x"
    assert describe_error(Diverged(2, 1, 0.1)).startswith("the loss stopped being finite at step 2")


def test_what_stores_refuse_is_written_as_escapes():
    assert storable("é \ud800\0") == "é \\ud800\\x00"
    assert storable("é\n") == "é\n"


def test_a_message_of_a_megabyte_is_cut():
    assert len(describe_error(ValueError("\udcff" * 1_000_000))) < 20_000
    assert describe_error(ValueError("x" * 1_000_000)).endswith("x ...")
