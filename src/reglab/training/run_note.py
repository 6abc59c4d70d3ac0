"""Markdown note that MLflow shows on a run's page."""

import math
from collections.abc import Mapping

from reglab.core.markdown import plain
from reglab.data import DataSet
from reglab.measures import score_name
from reglab.regularizers import Cocktail


def run_note(data: DataSet, cocktail: Cocktail, final: Mapping[str, float]) -> str:
    """Return, in markdown, what was trained, what it reached, and whether it overfits.

    Args:
        data: What was trained on.
        cocktail: The regularizers.
        final: Metrics of the run.

    Returns:
        Markdown.
    """
    name = score_name(data.task)
    shown = [key.removeprefix("gap/") for key in final if key.startswith("gap/") and f"{key}_low" in final]
    shown = [key for key in shown if key not in ("loss", name)]
    members = plain(", ".join(member for member, _ in cocktail.named_regularizers()) or "none")
    lines = [
        f"**{verdict(final)}**",
        "",
        f"Regularizers: {members}. Data: {plain(data.name)}, {len(data.train)} training rows, "
        f"digest `{data.digest[:12]}`.",
        "",
        "| | training | validation | gap [95% interval] |",
        "|---|---|---|---|",
        *(
            f"| {key} | {final[f'train/{key}']:.4g} | {final[f'val/{key}']:.4g} | "
            f"{bracketed(final, f'gap/{key}', '.4g')} |"
            for key in ("loss", name, *shown)
        ),
        "",
        *([note, ""] if (note := data.criterion.note) else []),
        f"Exact zeros among the weights: {final.get('weights/zeros', 0.0):.1%}.",
        "",
        "The interval is conditional on the trained model: it speaks of other examples, not of other seeds.",
    ]
    return "\n".join(lines)


def steps_note(name: str, cocktail: Cocktail, final: Mapping[str, float]) -> str:
    """Return, in markdown, what a LightningModule trained by its own steps reached.

    Args:
        name: Of its data.
        cocktail: The regularizers.
        final: Metrics of the run.

    Returns:
        Markdown.
    """
    names = [key.removeprefix("gap/") for key in final if key.startswith("gap/") and not key.endswith(_ENDS)]
    members = plain(", ".join(member for member, _ in cocktail.named_regularizers()) or "none")
    lines = [
        f"**{verdict(final)}**",
        "",
        f"Regularizers: {members}. Data: {plain(name)}.",
        "",
        "| | training | validation | gap [95% interval] |",
        "|---|---|---|---|",
        *(
            f"| {plain(key)} | {final[f'train/{key}']:.4g} | {final[f'val/{key}']:.4g} | "
            f"{bracketed(final, f'gap/{key}', '.4g')} |"
            for key in names
        ),
        "",
        f"Exact zeros among the weights: {final.get('weights/zeros', 0.0):.1%}.",
        "",
        "Both sides are measured alike, by the same steps in evaluation mode. The interval is conditional on the "
        "trained model: it speaks of other examples, not of other seeds.",
    ]
    return "\n".join(lines)


_ENDS = ("_low", "_high", "_se")


def bracketed(metrics: Mapping[str, float], key: str, digits: str) -> str:
    """Return ``value [low, high]``, or the value alone where it has no interval."""
    low, high = metrics.get(f"{key}_low", math.nan), metrics.get(f"{key}_high", math.nan)
    known = not math.isnan(low + high)
    return f"{metrics[key]:{digits}}" + (f" [{low:{digits}}, {high:{digits}}]" if known else "")


def verdict(final: Mapping[str, float]) -> str:
    """Return in words whether the gap in loss differs from zero."""
    gap, low, high = final["gap/loss"], final.get("gap/loss_low"), final.get("gap/loss_high")
    if not math.isfinite(gap):
        return "No verdict: the loss is not finite."
    if low is None or high is None:  # of a LightningModule's own steps
        return f"No verdict: with fewer than 10 validation batches the gap of {gap:.3g} has no interval."
    if math.isnan(low + high) and math.isnan(final.get("val/loss_se", 0.0)):
        return (
            "No verdict: the loss has no value for each row, and too few groups of rows were measured for an interval; "
            f"its gap is {gap:.3g}."
        )
    if math.isnan(low + high):
        return f"No verdict: too few errors on the validation part for an interval of the loss; its gap is {gap:.3g}."
    interval = bracketed(final, "gap/loss", ".3g")
    if low > 0:
        return f"Overfits: the validation loss is above the training loss by {interval}."
    if high < 0:
        return f"Does not overfit: the validation loss is below the training loss, gap {interval}."
    return f"No clear overfitting: the interval of the gap holds zero, {interval}."
