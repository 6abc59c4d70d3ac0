"""Matplotlib theme, and conversion to inline SVG that follows the page's light or dark theme."""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Placeholders that are replaced by CSS colours in the SVG text.
INK, MUTED, GRID = "#1e1f21", "#7b7c7e", "#c9cacc"
CSS = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--grid)"}

THEME: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reglab",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # labels may contain dollar signs
    "text.usetex": False,  # a stranger's matplotlibrc in the working folder would have TeX run
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.minor.visible": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "path.simplify_threshold": 0.4,
}


@contextmanager
def themed() -> Iterator[None]:
    """Apply the theme inside the context, for drawing and for saving."""
    with matplotlib.rc_context(THEME), warnings.catch_warnings():
        # SVG text is drawn with the browser's fonts, so missing glyphs do not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def grid(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of ``width`` x ``height`` inches and its axes as rows of columns."""
    figure = Figure(figsize=(width, height))
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False, **options)]


def _rounded(attribute: re.Match[str]) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute.group())


def to_svg(figure: Figure, name: str, label: str) -> str:
    """Return a figure as an inline ``<svg>`` element: CSS colours, ids prefixed by ``name``.

    Args:
        figure: The figure.
        name: Unique in the page.
        label: For screen readers.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    # Two decimals are enough for coordinates; digits in text elements stay.
    text = re.sub(r'\b(?:d|x|y|transform|points)="[^"]*"', _rounded, text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL)  # in the page
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda match: match.group() if match.group(1) in used else "", text)
    # Ids are unique only within a figure.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for stand_in, css in CSS.items():
        text = text.replace(stand_in, css)
    text = re.sub(r"\n\s*", "\n", text)
    width, height = figure.get_size_inches()
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{html.escape(label)}" viewBox="0 0 {72 * width:g} {72 * height:g}" '
        f'style="max-width: {96 * width:.0f}px">'
    )
    return head + text[text.index(">") + 1 :].strip()
