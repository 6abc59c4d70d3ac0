"""Reports of tables as files: what was written is read, and anything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reglab.analysis.table_report import ColumnReport, TableReport, dump, load

TEXTS = st.lists(st.text(max_size=8), max_size=3).map(tuple)
COUNTS = st.integers(0, 2**40)
COLUMNS = st.builds(ColumnReport, st.text(), st.text(), st.text(), TEXTS, COUNTS, COUNTS, TEXTS, TEXTS)
REPORTS = st.builds(
    TableReport,
    st.text(),
    st.text(),
    st.dictionaries(st.text(), COUNTS, max_size=3),
    st.lists(COLUMNS, max_size=3).map(tuple),
    TEXTS,
    TEXTS,
)


@given(st.lists(REPORTS, max_size=2).map(tuple))
def test_reports_return_from_a_file(tmp_path_factory, reports):
    path = tmp_path_factory.getbasetemp() / "reports.json"
    path.write_text(dump(reports), encoding="utf-8")
    assert load(path) == reports
    for report in reports:  # whatever a column is called or holds, there is a text
        assert report.text()
        assert report.markdown()


@pytest.mark.parametrize("text", ["", "{}x", "7", '[{"name": "a"}]', '["text"]', "[" * 100_000, '[{"columns": 3}]'])
def test_anything_else_is_refused(tmp_path, text):
    (tmp_path / "reports.json").write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 - its text is the reader's
        load(tmp_path / "reports.json")
