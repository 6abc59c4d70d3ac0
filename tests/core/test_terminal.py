"""Terminals of few characters: nothing raises, and what can be shown is shown."""

import codecs
import io
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from reglab.core.terminal import ERRORS, plain, replace_unencodable, shown

ENCODINGS = ("ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift_jis", "utf-8")
# A test of properties takes the same examples each time and writes no folder.
steady = settings(derandomize=True, database=None, max_examples=200, deadline=None)


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes standard output and error terminals of an encoding."""

    def make(encoding):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="") for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        replace_unencodable()
        return streams

    return make


@steady
@given(st.text(st.characters(exclude_categories=[])), st.sampled_from(ENCODINGS))
def test_every_text_can_be_written_and_what_the_encoding_has_stays(text, encoding):
    replace_unencodable()
    written = text.encode(encoding, ERRORS)
    kept = [character for character in text if _encodable(character, encoding)]
    found = iter(written.decode(encoding, "surrogateescape"))
    expected = [character.encode(encoding).decode(encoding) for character in kept]
    assert all(character in found for character in expected)  # in this order


def _encodable(character, encoding):
    try:
        codecs.encode(character, encoding)
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("stream", [0, 1])
@pytest.mark.parametrize(
    "encoding, expected",
    [
        ("utf-8", "◀ choice R² 0.5 ±0.1 a…"),
        ("latin-1", "< choice R² 0.5 ±0.1 a..."),
        ("cp1252", "< choice R² 0.5 ±0.1 a…"),
        ("ascii", "< choice R2 0.5 +-0.1 a..."),
    ],
)
def test_what_cannot_be_shown_has_a_plain_equivalent(terminal, encoding, expected, stream):
    streams = terminal(encoding)
    print("◀ choice R² 0.5 ±0.1 a…", file=(sys.stdout, sys.stderr)[stream], end="", flush=True)
    assert streams[stream].buffer.getvalue().decode(encoding) == expected


def test_a_file_name_that_is_no_text_keeps_its_bytes(terminal):
    streams = terminal("utf-8")
    print("runs/\udcff\ud800", end="", flush=True)
    assert streams[0].buffer.getvalue() == b"runs/\xff?"


def test_letters_lose_their_accents_before_they_become_question_marks():
    assert plain("naïve Čapek 漢字 ﬁ") == "naive Capek ?? fi"


def test_a_name_cannot_steer_the_terminal(terminal):
    terminal("utf-8")
    assert shown("\x1b[2Jname\r\nnext") == "?[2Jname?\nnext"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_columns_of_a_table_stay_aligned(terminal, encoding):
    streams = terminal(encoding)
    table = Table()
    table.add_column("name")
    table.add_column("loss")
    for name in ("plain", "a long na…", "◀ ±"):
        table.add_row(shown(name), "1")
    Console(width=60).print(table)
    sys.stdout.flush()
    lines = streams[0].buffer.getvalue().decode(encoding).splitlines()
    assert len({len(line) for line in lines}) == 1
