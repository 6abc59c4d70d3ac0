"""Escaped text against a Markdown parser of its own: it shows as it is, in one line."""

import html
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reglab.core.markdown import plain

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20) | st.text(
    "a1 *_`[]()<>|#~&!\\$=+-.:;/\"'\n", max_size=20
)
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
steady = settings(derandomize=True, database=None, max_examples=400, deadline=None)


@steady
@given(TEXTS)
@example("<script>alert(1)</script>")
@example("[x](http://y) &lt; a|b\\")
def test_text_in_a_sentence_shows_as_it_is(text):
    page = PARSER.render(f"Name: {plain(text)}.")
    assert re.fullmatch(r"<p>[^<>]*</p>\n", page)
    assert html.unescape(page[3:-5]) == f"Name: {' '.join(text.split())}."


@steady
@given(TEXTS)
def test_text_in_a_table_stays_in_its_cell(text):
    page = PARSER.render(f"| a | b |\n|---|---|\n| {plain(text)} | end |")
    assert [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", page)] == [" ".join(text.split()), "end"]
