"""Sphinx: README.md, CONTRIBUTING.md and docs/ as a site, with the API from the docstrings. Built by scripts/docs."""

import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _PROJECT["name"]
version = release = _PROJECT["version"]
author = copyright = "The reglab authors"  # noqa: A001 - Sphinx's name for it

# The source folder is the repository, so that links between pages are those that work in it, too.
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/**"]
exclude_patterns = ["docs/conf.py", ".*", "build", "conf", "src", "tests", "runs", "mlruns", "mlartifacts"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = project
html_copy_source = False

_PAGES = {
    "Use": [
        "lightning",
        "training",
        "optimizers",
        "trainer",
        "data",
        "tables",
        "regularizers",
        "kinds",
        "measures",
        "measures/matrices",
        "measures/curvature",
        "measures/calibration",
        "measures/by_class",
        "measures/norms",
        "measures/flatness",
        "measures/ranking",
        "onset",
        "learning_curve",
        "bias_variance",
        "claims",
        "degrees_of_freedom",
        "tasks",
        "intervals",
        "sweeps",
        "choosing",
        "fused",
        "python",
        "after",
    ],
    "Run": ["devices", "nothing-lost", "server", "security", "speed"],
    "Reference": ["api/reglab", "api/regularizers", "api/tasks", "api/measures", "api/models", "api/data", "glossary"],
}


def _contents() -> str:
    """Return the table of contents that README.md has in the site alone."""
    parts = {caption: [f"docs/{page}" for page in pages] for caption, pages in _PAGES.items()}
    parts["Develop"] = ["docs/architecture", "CONTRIBUTING"]
    trees = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])
        for caption, pages in parts.items()
    ]
    return "\n\n" + "\n\n".join(trees) + "\n"


def _add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == root_doc:
        source[0] += _contents()


def setup(app: Sphinx) -> None:
    """Connect what this site adds to Sphinx."""
    app.connect("source-read", _add_contents)
