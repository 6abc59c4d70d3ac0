import shlex
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

import reglab.tracking.mlflow
from reglab.analysis.grouping import candidates
from reglab.analysis.trial import Trial
from reglab.reports.collect import _command, collect, overrides, trial, versions
from reglab.reports.data_sets import by_data_set
from reglab.reports.sweep import file_name, report


@dataclass
class Record:
    """What collecting needs of a run in MLflow."""

    run_id: str
    name: str = "run"
    status: str = "FINISHED"
    params: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)


def record(number, strength, seed, loss, **changes):
    tags = {
        "reglab.regularizer": "l1",
        "reglab.block": "l1",
        "reglab.strength": f"{strength:g}",
        "reglab.stronger": "1",
        "reglab.seed": str(seed),
        "reglab.score": "r2",
        "reglab.overrides": f"regularizer=[l1] regularizer.l1.strength={strength} seed={seed} sweep.job={number}",
        "reglab.data_digest": "d" * 64,
        "mlflow.source.git.commit": "0123abc",
        "mlflow.source.git.dirty": "true",
    }
    return Record(
        f"run{number}",
        params={"regularizer.l1.strength": repr(strength), "seed": str(seed), "data.name": "wine"},
        tags=tags,
        metrics={"final/val/loss": loss, "final/weights/zeros": 0.5, "val/loss": 99.0, "test/loss": 0.7},
        **changes,
    )


@pytest.fixture
def store(monkeypatch):
    """Stand in for MLflow: two strengths, two seeds, and one run that failed."""
    records = [record(n, s, seed, loss) for n, (s, seed, loss) in enumerate([(0.1, 0, 2), (0.1, 1, 2), (0.2, 0, 1)])]
    failed = record(3, 0.2, 1, float("nan"), status="FAILED")
    failed.tags["reglab.message"] = "diverged at step 7"
    asked = []

    def history(uri, run_id, keys):
        asked.append(run_id)
        return {key: [(0, 1.0), (1, 0.5)] for key in keys}

    parent = Record("parent", "study", tags={"reglab.command": "/home/me/.venv/bin/reglab train -m experiment=study"})
    fake = SimpleNamespace(
        get_run=lambda uri, run_id: parent,
        sweep_runs=lambda uri, run_id: [*records, failed],
        history=history,
        copy_artifact=lambda record, name, folder: None,
    )
    monkeypatch.setitem(sys.modules, "reglab.tracking.mlflow.read", fake)
    monkeypatch.setattr(reglab.tracking.mlflow, "read", fake, raising=False)
    return SimpleNamespace(asked=asked, parent=parent, records=records)


def test_a_sweep_is_read_back(store):
    data = collect("sqlite:///x.db", "parent")
    assert (data.name, data.score, data.command) == ("study", "r2", "reglab train -m experiment=study")
    assert [(t.strength, t.seed, t.status) for t in data.trials] == [
        (0.1, 0, "FINISHED"),
        (0.1, 1, "FINISHED"),
        (0.2, 0, "FINISHED"),
        (0.2, 1, "FAILED"),
    ]
    assert data.trials[3].message == "diverged at step 7"
    assert data.provenance["git commit"] == "0123abc with local changes"
    assert data.provenance["data"] == "wine"


def test_histories_are_read_of_drawn_runs_only(store):
    data = collect("sqlite:///x.db", "parent")
    assert sorted(store.asked) == sorted(data.histories) == ["run0", "run1", "run2"]
    assert set(data.histories["run0"]) == {
        f"{side}/{name}" for side in ("train", "val", "gap") for name in ("loss", "r2")
    }


def test_the_sweep_s_monitor_jobs_and_earlier_looks_are_read(store):
    plain = collect("sqlite:///x.db", "parent")
    assert (plain.monitor, plain.jobs, plain.earlier_test_uses) == ("val/loss", None, "")
    store.records[0].params["measure.monitor"] = "val/accuracy"
    assert collect("sqlite:///x.db", "parent").monitor == "val/accuracy"
    store.parent.params["measure.monitor"] = "val/r2"
    store.parent.tags |= {"reglab.jobs": "6", "reglab.test_looked_before": "2 runs of first"}
    actual = collect("sqlite:///x.db", "parent")
    assert (actual.monitor, actual.jobs, actual.earlier_test_uses) == ("val/r2", 6, "2 runs of first")


def test_the_report_chooses_by_the_sweep_s_monitor(store, tmp_path):
    for index, run in enumerate(store.records):
        run.metrics |= {"final/val/r2": 0.9 - index / 10}
    assert report("sqlite:///x.db", "parent", tmp_path)[0].choice.best.strength == 0.1  # 0.2 lost a seed
    store.parent.params["measure.monitor"] = "val/r2"
    store.parent.tags["reglab.jobs"] = "5"
    (actual,) = report("sqlite:///x.db", "parent", tmp_path)
    assert (actual.choice.monitor, actual.choice.absent) == ("val/r2", 1)
    assert "1 job has no run" in actual.verdict


def test_data_that_changed_while_the_sweep_ran_are_the_verdict(store, tmp_path):
    assert collect("sqlite:///x.db", "parent").changed_data == ""
    store.records[1].params["data.split_seed"] = "7"  # other options, other data
    store.records[1].tags["reglab.data_digest"] = "e" * 64
    assert collect("sqlite:///x.db", "parent").changed_data == ""
    store.records[2].tags["reglab.data_digest"] = "f" * 64
    (actual,) = report("sqlite:///x.db", "parent", tmp_path)
    headline, *details = actual.verdict.splitlines()
    assert headline.startswith("The data changed while the sweep ran: with the same options, ")
    assert "2 runs saw data dddddddd and 1 run saw data ffffffff" in headline
    assert details


def test_metrics_are_those_of_the_end_of_the_run():
    assert trial(record(0, 0.1, 0, 0.25)).metrics == {"val/loss": 0.25, "weights/zeros": 0.5, "test/loss": 0.7}


def test_a_run_without_tags_is_a_run_without_regularizer():
    actual = trial(Record("x", metrics={"final/weights/all/zeros": 0.25}))
    assert (actual.block, actual.regularizer, actual.strength, actual.stronger, actual.seed) == (
        "none",
        "none",
        None,
        1,
        None,
    )
    assert actual.metrics == {"weights/zeros": 0.25}


def test_overrides_keep_spaces_in_values_and_lose_the_sweeps_own():
    kept = ("regularizer=[l1, dropout]", "+model.note='a, b=c'", "~scheduler.warmup", "data.path=my data.csv", "seed=1")
    own = ("sweep.parent=abc", "sweep.block='l1 (lr=0.1, width=64) #2'", "+sweep.job=3")
    assert overrides(shlex.join([*kept[:2], *own, *kept[2:]])) == kept
    assert overrides("") == ()


@pytest.mark.parametrize("text", ["9001 characters: see the artifact tags_long.json", "name='cut here"])
def test_what_is_no_list_of_overrides_gives_none(text):
    assert overrides(text) == ()


def test_versions_name_what_is_installed():
    assert versions(["reglab", "no-such-package"]).split(", ")[1:] == ["reglab 0.1.0"]


@pytest.mark.parametrize(
    "words, shown",
    [
        (["/a b/bin/reglab", "train", "data.target=y (%)"], ["reglab", "train", "data.target=y (%)"]),
        (["/usr/bin/reglab", "train"], ["reglab", "train"]),
    ],
)
def test_a_recorded_command_is_shown_without_the_path_of_its_program(words, shown):
    assert shlex.split(_command(shlex.join(words))) == shown
    assert _command("") == ""


def test_data_sets_whose_names_make_one_file_name_are_numbered() -> None:
    runs = [
        Record(str(number), params={"data.name": "table", "data.path": path})
        for number, path in enumerate(["é.csv", "ü.csv"])
    ]
    assert list(by_data_set(runs)) == ["é.csv 1", "ü.csv 2"]
    assert len({file_name("report.html", name) for name in by_data_set(runs)}) == 2


def test_what_older_versions_recorded_otherwise_is_the_same_setting() -> None:
    old, new = {"trust": "[]"}, {"init_seed": "null"}
    runs = [
        Trial(str(seed), "l2", "l2", 0.1, 1, seed, {"val/loss": 1.0}, params, "FINISHED")
        for seed, params in enumerate((old, new))
    ]
    (both,), _ = candidates(runs, "val/loss")
    assert (len(both.trials), both.missing) == (2, 0)
