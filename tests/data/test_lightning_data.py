"""Rows of a LightningDataModule for a network of reglab's: those of its data sets, or refused by name."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, WeightedRandomSampler, default_collate

from data.data_modules import Drawn, module, part
from data.map_datasets import Endless, Mappings, Pairs
from reglab.config.trust import isolated, trust
from reglab.core.errors import UserError
from reglab.data import DataSet, load
from reglab.training.fused.job import prepare_jobs
from training.job_case import config


@pytest.fixture(autouse=True)
def trusted():
    with isolated():
        trust("data")
        yield


def loaded(target: str = "Drawn", **arguments: Any) -> DataSet:
    return load({"_target_": f"data.data_modules.{target}", "_loop_": "lightning", "task": None} | arguments)


def test_rows_are_those_of_its_data_sets_as_they_are():
    given, again = loaded(batch_size=12), loaded()
    torch.manual_seed(0)
    np.random.seed(0)
    own = Drawn()
    own.prepare_data()
    own.setup("fit")
    for ours, theirs in zip((given.train, given.val, given.test), own.parts, strict=True):
        inputs, targets = default_collate([theirs[number] for number in range(len(theirs))])
        order = ours.index.argsort()
        assert torch.equal(ours.tensor[order], inputs)
        assert torch.equal(ours.targets[order], targets)
    assert (given.name, given.task, given.outputs, given.summary["standardize"]) == (
        "Drawn",
        "classification",
        3,
        False,
    )
    assert (given.batch_size, again.batch_size, given.digest == again.digest) == (12, 16, True)
    with pytest.raises(UserError, match=r"data\.batchsize: Drawn has no such argument; did you mean 'batch_size'"):
        loaded(batchsize=3)
    assert loaded(task="ordinal").task == "ordinal"


def test_no_draw_is_taken_from_the_global_generators():
    before = (torch.random.get_rng_state(), np.random.get_state()[2], random.getstate())
    loaded()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[2], random.getstate()) == before[1:]


def test_jobs_of_a_plain_network_train_in_steps_of_the_loaders_batch_size_and_fuse():
    words = ("data=lightning", "data._target_=data.data_modules.Drawn", "+data.batch_size=12")
    jobs = prepare_jobs([config(*words, f"seed={seed}") for seed in (0, 1)])
    assert [job.experiment.recipe.batch_size for job in jobs] == [12, 12]
    assert not jobs[0].experiment.data.streamed
    assert len({job.run_spec(Path()).tags["reglab.fingerprint"] for job in jobs}) == 2
    same = prepare_jobs([config(*words[:2], *given) for given in ((), ("+data.batch_size=16",))])
    prints = [job.run_spec(Path()).tags["reglab.fingerprint"] for job in same]
    assert prints[0] == prints[1]  # 16 is what the class has


@pytest.mark.parametrize(
    "methods, message",
    [
        ({"train_dataloader": part(shuffle=False)}, r"train_dataloader: shuffle=False would be lost.*model=lightning"),
        ({"train_dataloader": part(drop_last=True)}, r"train_dataloader: drop_last=True would be lost"),
        ({"val_dataloader": part(collate_fn=list)}, r"val_dataloader: its collate_fn would be lost"),
        ({"val_dataloader": part(generator=torch.Generator())}, r"its generator would be lost"),
        ({"val_dataloader": part(worker_init_fn=print)}, r"its worker_init_fn would be lost"),
        ({"val_dataloader": part(batch_size=None, shuffle=False)}, r"batch_size=None would be lost"),
        (
            {"train_dataloader": part(shuffle=False, sampler=WeightedRandomSampler([1.0] * 90, 90))},
            r"its sampler \(WeightedRandomSampler\)",
        ),
        (
            {"train_dataloader": part(shuffle=False, sampler=RandomSampler(Pairs(), num_samples=9))},
            r"\(RandomSampler\)",
        ),
        (
            {"val_dataloader": lambda _: DataLoader(Pairs(), batch_sampler=[[0, 1], [2, 3]])},
            r"val_dataloader: its batch_sampler would be lost",
        ),
        ({"train_dataloader": lambda _: DataLoader(Endless())}, r"the order of its IterableDataset"),
        ({"train_dataloader": lambda _: DataLoader(Mappings(), shuffle=True)}, r"items .* mappings: .*data=dataset"),
        ({"val_dataloader": lambda _: [DataLoader(Pairs())]}, r"val_dataloader returns several loaders"),
        ({"val_dataloader": lambda _: Pairs()}, r"val_dataloader returns a Pairs: return one torch DataLoader"),
        ({"test_dataloader": None}, r"Own has no test_dataloader"),
        (
            {"on_after_batch_transfer": lambda self, batch, _: batch},
            r"Own\.on_after_batch_transfer would not be called",
        ),
        ({"setup": lambda self, stage: self.gone}, r"Own cannot make its loaders \(AttributeError"),
        ({"__init__": lambda self, rows: None}, r"Own needs rows"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(monkeypatch, methods, message):
    monkeypatch.setattr("data.data_modules.Own", module(**methods), raising=False)
    with pytest.raises(UserError, match=message):
        loaded("Own")


def test_what_loses_nothing_is_taken(monkeypatch):
    even = part(drop_last=True, batch_size=9, pin_memory=False, num_workers=0)
    monkeypatch.setattr("data.data_modules.Own", module(train_dataloader=even), raising=False)
    assert len(loaded("Own").train) == 90


def test_another_class_is_refused():
    with pytest.raises(UserError, match="not trusted to be imported"):
        load({"_target_": "other.Data", "_loop_": "lightning"})
    with pytest.raises(UserError, match="is no LightningDataModule: give a torch Dataset by data=dataset"):
        load({"_target_": "data.map_datasets.Pairs", "_loop_": "lightning"})
