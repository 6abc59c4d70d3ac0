"""Starting from another run's weights: which they are, what takes their place, and that nothing
else comes along.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from reglab.config.fingerprint import fingerprint
from reglab.core.errors import UserError
from reglab.training.fused.job import load_experiments
from reglab.training.warm_start import warm_start
from training.job_case import Case, checkpoint, config

FOLDERS = "runs/*/*/run.json"


def folder_of(run_id):
    return next(path.parent for path in Path.cwd().glob(FOLDERS) if run_id in path.read_text())


def rows(run_id, key):
    """A metric's values by step, from the run's own journal."""
    lines = [json.loads(line) for line in (folder_of(run_id) / "journal.jsonl").read_text().splitlines()]
    return {line["step"]: line["metrics"][key] for line in lines if key in line.get("metrics", {})}


def tags(run_id):
    lines = [json.loads(line) for line in (folder_of(run_id) / "journal.jsonl").read_text().splitlines()]
    return {key: value for line in lines for key, value in line.get("tags", {}).items()}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train job ``number`` of a path, from the run ``start`` of job ``after``, and return its
    result.
    """
    monkeypatch.chdir(tmp_path)
    case = Case(tmp_path)

    def run(number, *overrides, start=None, after=None):
        index = [f"sweep.job={number}", f"sweep.after={'null' if after is None else after}"]
        index += [] if start is None else [f"sweep.start='{start if isinstance(start, Path) else folder_of(start)}'"]
        return case.train("tracking=none", *index, *overrides)

    return run


def test_a_job_starts_where_the_one_before_it_ended(train):
    first = train(0)
    second = train(1, "optimizer.lr=2e-2", start=first.run_id, after=0)
    losses = [rows(run.run_id, "val/loss") for run in (first, second)]
    assert losses[0][3] == losses[1][0]
    assert losses[0][0] != losses[1][0]
    assert tags(second.run_id)["reglab.start"] == first.run_id
    assert "reglab.start" not in tags(first.run_id)
    message = torch.load(folder_of(second.run_id) / "checkpoints" / "last.ckpt", weights_only=True)
    assert message["hyper_parameters"]["start"] == first.run_id


def test_only_the_weights_come_along(train):
    """Training on from Adam's state would differ from training anew with the same weights: step 1
    is lr * sign.
    """
    first = train(0)
    second = train(1, "trainer.max_epochs=1", "data.batch_size=1000", "optimizer.lr=1e-3", start=first.run_id, after=0)
    before, after = (checkpoint(folder_of(run.run_id) / "checkpoints" / "last.ckpt") for run in (first, second))
    moved = (after["model.head.weight"] - before["model.head.weight"]).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 1e-3), rtol=0.02, atol=0)


def test_a_run_that_may_stop_hands_on_its_best_epoch(train):
    overrides = (
        "regularizer=[early_stopping]",
        "regularizer.early_stopping.patience=1",
        "optimizer=sgd",
        "optimizer.lr=3",
    )
    first = train(0, *overrides, "trainer.max_epochs=12", "seed=3")
    losses = rows(first.run_id, "val/loss")
    assert min(losses, key=losses.get) < max(losses)
    second = train(1, start=first.run_id, after=0)
    assert rows(second.run_id, "val/loss")[0] == min(losses[epoch] for epoch in losses if epoch)


def test_a_run_with_an_average_hands_on_its_trained_weights_and_the_new_average_starts_there(train):
    ema = ("regularizer=[ema]", "regularizer.ema.strength=0.5")
    first = train(0, *ema)
    state = checkpoint(folder_of(first.run_id) / "checkpoints" / "last.ckpt")
    job = config(*ema, "sweep.job=1", "sweep.after=0", f"sweep.start='{folder_of(first.run_id)}'")
    _, (experiment,) = load_experiments([job])
    model = experiment.cocktail.prepare(experiment.model)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, state[f"model.{name}"])
        slot = "cocktail.members.ema.average_" + name.replace(".", "__")
        average = experiment.cocktail.get_buffer(slot.removeprefix("cocktail."))
        assert torch.equal(average, weight)
        assert not torch.equal(average, state[slot])


def test_a_run_that_failed_is_passed_over(train):
    data = ("data=diabetes", "model=linear")
    first = train(0, *data)
    diverged = train(1, *data, "optimizer=sgd", "optimizer.lr=1e6", start=first.run_id, after=0)
    assert diverged.status == "FAILED"
    third = train(2, *data, start=diverged.run_id, after=1)
    assert tags(third.run_id)["reglab.start"] == first.run_id
    assert rows(third.run_id, "val/loss")[0] == rows(first.run_id, "val/loss")[3]


def test_where_no_run_is_left_the_job_starts_anew_and_says_so(train, tmp_path):
    cold = train(0)
    for start, after in ((tmp_path / "nothing", 0), (folder_of(cold.run_id), 7)):  # 7: another job's folder
        run = train(1, start=start, after=after)
        assert tags(run.run_id)["reglab.start"] == "initial"
        assert rows(run.run_id, "val/loss") == rows(cold.run_id, "val/loss")


def test_a_pack_starts_each_member_from_its_own(train):
    runs = [train(number, f"seed={number}") for number in range(2)]
    jobs = [
        config(
            f"seed={number}",
            f"sweep.job={number + 2}",
            f"sweep.after={number}",
            f"sweep.start='{folder_of(run.run_id)}'",
        )
        for number, run in enumerate(runs)
    ]
    _, experiments = load_experiments(jobs)
    for run, experiment in zip(runs, experiments, strict=True):
        state = checkpoint(folder_of(run.run_id) / "checkpoints" / "last.ckpt")
        assert torch.equal(experiment.model.state_dict()["head.weight"], state["model.head.weight"])
        assert experiment.description["start"] == run.run_id


def test_double_precision_is_kept(train):
    first = train(0, "trainer.precision=64-true")
    second = train(1, "trainer.precision=64-true", start=first.run_id, after=0)
    assert rows(first.run_id, "val/loss")[3] == rows(second.run_id, "val/loss")[0]


@pytest.mark.parametrize(
    "model, part", [({"head": nn.Linear(6, 4)}, "do not fit"), ({"tail": nn.Linear(6, 3)}, "lacks")]
)
def test_weights_that_do_not_fit_are_refused(train, model, part):
    first = train(0)
    sweep = {"start": str(folder_of(first.run_id)), "after": 0}
    with pytest.raises(UserError, match=part):
        warm_start(nn.ModuleDict(model), sweep)


def test_what_was_trained_before_is_part_of_what_a_job_computes():
    job = {"data": {"name": "wine"}, "seed": 0, "sweep": {"parent": "a", "job": 1, "start": "/x", "trail": None}}
    warm = {**job, "sweep": {**job["sweep"], "trail": "abc"}}
    moved = {**warm, "sweep": {**warm["sweep"], "parent": "b", "start": "/y"}}
    marks = [fingerprint(each, "digest") for each in (job, warm, moved)]
    assert marks[0] != marks[1] == marks[2]
    assert marks[0] == fingerprint({key: value for key, value in job.items() if key != "sweep"}, "digest")
