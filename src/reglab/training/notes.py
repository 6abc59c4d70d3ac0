"""The note that MLflow shows on a run's page."""

import math
from collections.abc import Mapping

from reglab.data import DataSet
from reglab.markdown import plain
from reglab.measures import score_name
from reglab.regularizers import Cocktail


def run_note(data: DataSet, cocktail: Cocktail, final: Mapping[str, float]) -> str:
    """Return, in markdown, what was trained, what it reached, and whether it overfits."""
    name = score_name(data.task)
    low, high = final["gap/loss_low"], final["gap/loss_high"]
    loss_gap = f"{final['gap/loss']:.4g} [{low:.4g}, {high:.4g}]"
    members = plain(", ".join(member for member, _ in cocktail.named_regularizers()) or "none")
    lines = [
        f"**{verdict(final)}**",
        "",
        f"Regularizers: {members}. Data: {plain(data.name)}, {len(data.train)} training rows, "
        f"digest `{data.digest[:12]}`.",
        "",
        "| | training | validation | gap [95% interval] |",
        "|---|---|---|---|",
        f"| loss | {final['train/loss']:.4g} | {final['val/loss']:.4g} | {loss_gap} |",
        f"| {name} | {final[f'train/{name}']:.4g} | {final[f'val/{name}']:.4g} | {final[f'gap/{name}']:.4g} "
        f"[{final[f'gap/{name}_low']:.4g}, {final[f'gap/{name}_high']:.4g}] |",
        "",
        f"Exact zeros among the weights: {final.get('weights/zeros', 0.0):.1%}.",
        "",
        "The interval is conditional on the trained model: it speaks of other examples, not of other seeds.",
    ]
    return "\n".join(lines)


def verdict(final: Mapping[str, float]) -> str:
    """Return in words whether the gap in loss differs from zero."""
    gap, low, high = final["gap/loss"], final["gap/loss_low"], final["gap/loss_high"]
    if not math.isfinite(gap):
        return "No verdict: the loss is not finite."
    interval = f"{gap:.3g} [{low:.3g}, {high:.3g}]"
    if low > 0:
        return f"Overfits: the validation loss is above the training loss by {interval}."
    if high < 0:
        return f"Does not overfit: the validation loss is below the training loss, gap {interval}."
    return f"No clear overfitting: the interval of the gap holds zero, {interval}."
