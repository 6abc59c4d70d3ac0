"""Batches of ``transformers.Trainer``: what a model makes of one, and loaders in a fixed order."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from reglab.core.errors import UserError

LABELS = "labels"


def model_loss(model: Any, batch: Mapping[str, Any]) -> Tensor:
    """Return the loss that the model itself gives for a batch, 0-dim.

    Args:
        model: Of transformers, or any that ``Trainer`` takes.
        batch: With its labels.

    Raises:
        UserError: Where it gives none.
    """
    outputs = model(**batch)
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs[0]
    if not isinstance(loss, Tensor):
        raise UserError(
            f"{type(model).__name__} gives no loss for a batch of {', '.join(batch)}; say what is measured: "
            "TransformersCallback(..., task='classification'), or loss=lambda model, batch: ..."
        )
    return loss.mean()


def logits_and_labels(model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the model's logits of a batch, ``[rows, ...]``, and its labels.

    Args:
        model: Of transformers, or any that ``Trainer`` takes.
        batch: With labels.

    Raises:
        UserError: For a batch without ``labels``, or a model without logits.
    """
    if not isinstance(batch.get(LABELS), Tensor):
        raise UserError(
            f"a task judges logits by the {LABELS} of a batch, which has {', '.join(batch)}; name them so in the "
            "dataset or its collator, or give loss=lambda model, batch: ..."
        )
    outputs = model(**{name: value for name, value in batch.items() if name != LABELS})
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else outputs
    logits = logits[0] if isinstance(logits, tuple) else logits
    if not isinstance(logits, Tensor):
        raise UserError(f"{type(model).__name__} gives no logits; give loss=lambda model, batch: ..., without a task")
    return logits, batch[LABELS]


def measured_loader(loader: Any, rows: int, ranks: int) -> DataLoader[Any]:
    """Return a loader of plain dicts over the dataset of one of ``Trainer``'s, in its order.

    Args:
        loader: As ``Trainer`` made it, which may shuffle, or share out rows between ranks.
        rows: Of a batch.
        ranks: That share the work of a measurement.

    Raises:
        UserError: For a dataset without length on several ranks, each of which has rows of its own.
    """
    stream = isinstance(loader.dataset, IterableDataset)
    if stream and ranks > 1:
        raise UserError(
            "rows that come as a stream are measured on one device alone; give a dataset with a length, or train on one"
        )
    return DataLoader(
        loader.dataset,
        batch_size=rows,
        collate_fn=_AsDict(loader.collate_fn),
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
    )


class _AsDict:
    """A collate function that gives dicts: tokenizers give a class of their own."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self._collate = collate

    def __call__(self, rows: Any) -> Any:
        batch = self._collate(rows)
        return dict(batch) if isinstance(batch, Mapping) or hasattr(batch, "keys") else batch
