"""Starting from another run's weights: which they are, what takes their place, and that nothing
else comes along.
"""

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from reglab.config.fingerprint import fingerprint
from reglab.config.job_request import JobRequest, WarmStart
from reglab.core.errors import UserError
from reglab.training.fused.job import prepare_jobs
from reglab.training.warm_start import warm_start
from training.job_case import Case, checkpoint, config

FOLDERS = "runs/*/*/run.json"


def folder_of(run_id):
    return next(path.parent for path in Path.cwd().glob(FOLDERS) if run_id in path.read_text())


def rows(run_id, key):
    """A metric's values by step, from the run's own journal."""
    lines = [json.loads(line) for line in (folder_of(run_id) / "journal.jsonl").read_text().splitlines()]
    return {line["step"]: line["metrics"][key] for line in lines if key in line.get("metrics", {})}


def request(number, folder=None, after=None):
    """Return the request of job ``number`` of a path, from the run in ``folder`` of job ``after``."""
    start = None if folder is None else WarmStart(after, folder, "trail")
    return JobRequest(number, parent="p", block="b", start=start)


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
        folder = folder_of(start) if isinstance(start, str) else start
        return case.train("tracking=none", *overrides, request=request(number, folder, after))

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
    (job,) = prepare_jobs([config(*ema)], [request(1, folder_of(first.run_id), 0)])
    experiment = job.experiment
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
    requests = [request(number + 2, folder_of(run.run_id), number) for number, run in enumerate(runs)]
    jobs = prepare_jobs([config(f"seed={number}") for number in range(2)], requests)
    experiments = [job.experiment for job in jobs]
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
    with pytest.raises(UserError, match=part):
        warm_start(nn.ModuleDict(model), WarmStart(0, folder_of(first.run_id), "trail"))


def test_runs_of_an_older_version_are_passed_over_by_what_their_configs_say(train):
    """Which recorded the job, and where it started, as keys of ``sweep``."""
    data = ("data=diabetes", "model=linear")
    first = train(0, *data)
    diverged = train(1, *data, "optimizer=sgd", "optimizer.lr=1e6", start=first.run_id, after=0)
    for run, more in (
        (first, {"job": 0}),
        (diverged, {"job": 1, "after": 0, "start": str(folder_of(first.run_id)), "trail": "x"}),
    ):
        as_older_version(folder_of(run.run_id), more)
    third = train(2, *data, start=diverged.run_id, after=1)
    assert tags(third.run_id)["reglab.start"] == first.run_id


def as_older_version(folder, sweep):
    journal = folder / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        for key in ("reglab.job", "reglab.path"):
            line.get("tags", {}).pop(key, None)
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    recorded = yaml.safe_load((folder / "config.yaml").read_text())
    recorded["sweep"] |= sweep
    (folder / "config.yaml").write_text(yaml.safe_dump(recorded))


def test_what_was_trained_before_is_part_of_what_a_job_computes():
    job = {"data": {"name": "wine"}, "seed": 0, "sweep": {"seeds": 3}}
    assert fingerprint(job, "digest") != fingerprint(job, "digest", "abc") != fingerprint(job, "digest", "abd")
    assert fingerprint(job, "digest") == fingerprint({"data": job["data"], "seed": 0}, "digest")
    # As older versions computed it, from the config.
    assert fingerprint(job, "digest", "abc") == "ded7400c35160c8b"
