"""The figures of a sweep report as inline SVG, with captions."""

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from reglab.analysis.bias_variance.tradeoff import BiasVariance
from reglab.analysis.selection import Choice
from reglab.analysis.sweep_data import SweepData
from reglab.reports.figures.bias_variance import draw_bias_variance
from reglab.reports.figures.canvas import themed, to_svg
from reglab.reports.figures.colours import colours
from reglab.reports.figures.epochs import draw_curves, draw_gap
from reglab.reports.figures.strength import draw_measures, draw_strength
from reglab.reports.figures.summary import draw_summary, rows
from reglab.reports.figures.weights import draw_weights

__all__ = ["Picture", "draw", "draw_parts"]


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Attributes:
        name: Unique in the page.
        title: Its heading.
        svg: Inline SVG.
        caption: What its marks mean.
    """

    name: str
    title: str
    svg: str
    caption: str


def draw(data: SweepData, choice: Choice) -> list[Picture]:
    """Return the figures that the data allows, in the order of the page."""
    with themed():
        return [
            Picture(name, title, to_svg(figure, name, f"{title}. {caption}"), caption)
            for name, title, figure, caption in _figures(data, choice)
            if figure is not None
        ]


def draw_parts(found: BiasVariance) -> Picture | None:
    """Return the figure of bias and variance against strength; None if no strength was swept.

    Args:
        found: Of the sweep.
    """
    title = "Bias and variance"
    caption = (
        f"Parts of the {found.settings[0][1].main.loss if found.settings else 'loss'} on the validation rows. Band: "
        f"{100 * found.level:g}% interval over training samples and rows. Dots: the risk as measured; the line through "
        "it is the sum of the parts."
    )
    with themed():
        figure = draw_bias_variance(found)
        return (
            None
            if figure is None
            else Picture("bias-variance", title, to_svg(figure, "bias-variance", f"{title}. {caption}"), caption)
        )


def _figures(data: SweepData, choice: Choice) -> Iterator[tuple[str, str, Figure | None, str]]:
    palette = colours((c.block, c.regularizer) for c in choice.candidates)
    shown = rows(choice)
    yield (
        "summary",
        "At a glance",
        draw_summary(choice, data.score, palette),
        "Each regularizer at its own one-standard-error choice; in bold the choice of the sweep. "
        f"Lines: {data.level} interval of the gap (examples and seeds), one standard error of the loss, lowest to "
        "highest run of the score. Dashed: without a regularizer.",
    )
    yield (
        "strength",
        "What strength does",
        draw_strength(choice, data.score, palette),
        "Line: mean over runs. Band: lowest to highest run. Dashed, with its band: without a regularizer. Ring: the "
        "choice. A small gap beside a poor validation loss is underfitting, not success.",
    )
    yield (
        "measures",
        "What other measures say",
        draw_measures(choice, data.charts, palette),
        "As above, of the measures that the sweep was asked for (measure=[...]): what each names as worth a chart, "
        "twelve rows at most.",
    )
    yield (
        "gap",
        "The gap over epochs",
        draw_gap(shown, data.histories, data.score, palette),
        "Line: mean over runs. Band: lowest to highest run. Above zero the model does better on its training examples. "
        "Drawn up to the epoch that all runs of a setting reached; at most eight settings.",
    )
    yield (
        "curves",
        "Training and validation loss",
        draw_curves(shown, data.histories, palette),
        "Solid: validation. Dashed: training, measured after the epoch in evaluation mode. Means over runs; the shaded "
        "area between them is the gap. At most six settings.",
    )
    labels = {candidate.label: palette[candidate.block] for candidate in choice.candidates}
    yield (
        "weights",
        "The weights",
        draw_weights(data.weights, labels),
        "Share of the weights by value, on a logarithmic scale; the pin at zero is the share of exact zeros, which the "
        "histogram leaves out. Values beyond the ends count in the outermost bins.",
    )
