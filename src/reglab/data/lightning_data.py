"""Rows of a user's LightningDataModule, for a network that reglab trains (``data=lightning``)."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from reglab.config.instantiate import construct, locate
from reglab.config.lightning_loop import MARK, derives_from, own_hook
from reglab.config.objects import build_arguments
from reglab.core.describe_error import describe_error
from reglab.core.errors import UserError
from reglab.data.map_dataset import PARTS, items
from reglab.data.source import Source

_TASK = "task"
_OF_BATCHES = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_WAY_OUT = "or train a LightningModule (model=lightning), with which loaders stay as they are"


class ModuleRows(NamedTuple):
    """The data sets of a LightningDataModule's loaders, and the batch size of training."""

    source: Source
    batch_size: int


def module_rows(node: Mapping[str, Any]) -> ModuleRows:
    """Return the rows of the training, validation and test loader of a LightningDataModule.

    Global generators are seeded with 0 meanwhile, so that its splits are the same in every run.

    Args:
        node: ``data`` of a resolved config: ``_target_``, ``task``, and arguments of the class.

    Raises:
        UserError: For another class, and for a loader of which something would be lost.
    """
    target = node.get("_target_")
    cls = locate(target, object, "data")
    if not derives_from(cls, "LightningDataModule"):
        raise UserError(
            f"data._target_={target} is no LightningDataModule: give a torch Dataset by data=dataset data._target_=..."
        )
    for hook in _OF_BATCHES:
        if own_hook(cls, hook) is not None:
            raise UserError(
                f"{cls.__name__}.{hook} would not be called, since reglab makes the batches of a plain network: do "
                f"that in the data set's items, {_WAY_OUT}"
            )
    arguments = build_arguments({key: value for key, value in node.items() if key not in (MARK, _TASK)}, "data")
    with _seeded():
        loaders = _loaders(construct(cls, arguments, "data"))
        for part, loader in loaders.items():
            name = f"{cls.__name__}.{part}_dataloader"
            _check_loader(loader, name, training=part == "train")
            _check_pairs(loader.dataset, name)
        source = items(
            [loader.dataset for loader in loaders.values()],
            [f"the data set of {part}_dataloader" for part in loaders],
            task=node.get(_TASK) or "auto",
            workers=loaders["train"].num_workers,
        )
    return ModuleRows(Source(**{**vars(source), "name": cls.__name__}), int(loaders["train"].batch_size or 0))


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed the global generators with 0, and restore them afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _loaders(module: Any) -> dict[str, "DataLoader[Any]"]:
    """Return the loader of each part, made as a ``Trainer`` asks for them."""
    name, loaders = type(module).__name__, dict[str, Any]()
    for part in PARTS:
        if own_hook(type(module), f"{part}_dataloader") is None:
            raise UserError(f"{name} has no {part}_dataloader: reglab has a training, a validation and a test part")
    try:
        module.prepare_data()
        module.setup("fit")
        loaders |= {"train": module.train_dataloader(), "val": module.val_dataloader()}
        module.setup("test")
        return loaders | {"test": module.test_dataloader()}
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} cannot make its loaders ({describe_error(error)})") from error


def _check_loader(loader: Any, name: str, training: bool) -> None:
    """Refuse a loader that does more than batch the items of its data set."""
    if type(loader) is not DataLoader:
        kinds = "several loaders" if isinstance(loader, (list, tuple, Mapping)) else f"a {type(loader).__name__}"
        raise UserError(f"{name} returns {kinds}: return one torch DataLoader, {_WAY_OUT}")
    lost = _lost(loader, training)
    if lost is not None:
        raise UserError(
            f"{name}: {lost} would be lost, since reglab reads the items in an order of its own and batches them: "
            f"leave it out, {_WAY_OUT}"
        )


def _check_pairs(dataset: Any, name: str) -> None:
    """Refuse items that are mappings: which key is which is said by ``data=dataset``."""
    if len(dataset) and isinstance(dataset[0], Mapping):
        raise UserError(
            f"the items of {name} are mappings: return pairs (inputs, target), or give the data sets by data=dataset "
            f"data.train._target_=... data.inputs=KEY data.targets=KEY, {_WAY_OUT}"
        )


def _lost(loader: "DataLoader[Any]", training: bool) -> str | None:
    """Return what of a loader would have no effect here; None where nothing would."""
    if isinstance(loader.dataset, IterableDataset):
        return "the order of its IterableDataset"
    if loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        return "its batch_sampler" if loader.batch_size is None and loader.batch_sampler else "batch_size=None"
    sampler = loader.sampler
    if type(sampler) is SequentialSampler:
        if training:
            return "shuffle=False"
    elif type(sampler) is not RandomSampler or sampler.replacement or len(sampler) != len(sampler.data_source):
        return f"its sampler ({type(sampler).__name__})"
    if loader.collate_fn is not default_collate:
        return "its collate_fn"
    if loader.drop_last and len(loader.dataset) % loader.batch_size:  # type: ignore[arg-type]  # it has a length
        return "drop_last=True"
    return "its generator" if loader.generator is not None else "its worker_init_fn" if loader.worker_init_fn else None
