"""Every path and every link that README, CONTRIBUTING and docs/ name leads somewhere; README keeps its size."""

import re
from pathlib import Path

import pytest

import docs_pages

ROOT = docs_pages.ROOT
_FOLDERS = "src|tests|conf|scripts|docs|requirements|pyproject|\\.ci"
_PATH = re.compile(rf"(?<![\w/.-])((?:{_FOLDERS})/[\w./*-]*[\w*/])")
_SHORT = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.py)`")  # counted from src/reglab/, as tables do
_LINK = re.compile(r"\]\(([^)\s#]*)(?:#([\w-]+))?\)")

_OTHERS = {"Launcher"}  # of Hydra

every_page = pytest.mark.parametrize("page", docs_pages.PAGES, ids=docs_pages.name_of)


def missing(paths: set[str], *homes: Path) -> list[str]:
    return sorted(path for path in paths if "NAME" not in path and not any(any(home.glob(path)) for home in homes))


@every_page
def test_every_path_is_there(page: Path) -> None:
    text, own = page.read_text(encoding="utf-8"), docs_pages.files_of(page)
    assert missing({path.rstrip("/") for path in _PATH.findall(text)} - own, ROOT) == []
    assert missing(set(_SHORT.findall(text)) - own, ROOT, ROOT / "src" / "reglab") == []


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_class_and_method_that_is_named_is_there(page: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src" / "reglab").rglob("*.py")]
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    for name, method in re.findall(r"`(_?[A-Z][a-z]\w+)(?:\.(\w+))?(?:\(\))?`", prose):
        homes = [text for text in sources if re.search(rf"^class {name}\b", text, re.M)]
        assert homes or name in _OTHERS, name
        assert not method or any(f"def {method}(" in text for text in homes), f"{name}.{method}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@every_page
def test_every_link_leads_to_a_page_and_to_a_heading(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


def test_readme_is_one_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1000


def test_the_glossary_has_the_terms_of_ours_and_no_others() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = ["cocktail", "strength", "pack", "member", "probe", "audited gap"]
    terms += ["journal", "fingerprint", "law", "oracle"]
    assert re.findall(r"^\*\*(.+)\*\*$", text, re.M) == terms
