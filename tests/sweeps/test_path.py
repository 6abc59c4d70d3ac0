"""Paths: which job starts from which, what else is refused, and that jobs run in turn."""

from pathlib import Path

import pytest
from hydra.types import RunMode

from launchers import small, standin, standin_pack
from reglab.config import job_request
from reglab.config.sweep_functions import rewrite
from reglab.core.errors import UserError
from reglab.launchers import local, task
from reglab.launchers.compose import Composer
from reglab.launchers.display import Display
from reglab.launchers.events import Ended, Packed, Started
from reglab.launchers.request_launcher import Capabilities
from reglab.sweeps import ledger
from reglab.sweeps.blocks import expand
from reglab.sweeps.path import links

STRENGTHS = "regularizer.l1.strength=0.1,10,1"


@pytest.fixture
def conf(conf):
    """The small configuration, with what a path needs of ``sweep``."""
    file = conf / "train.yaml"
    assert file.read_text() == small.FILES["train.yaml"]
    file.write_text(file.read_text().replace("seeds: null", "seeds: null, path: null"))
    return conf


@pytest.fixture
def linked(hydra):
    """Return the jobs of a command line, the job that each starts from, and their composer."""

    def found(*arguments, path="up", blocks=(), seeds=None):
        given = [*([f"sweep.path={path}"] if path else []), *arguments]
        plain = [each for each in given if "," not in each]
        master = hydra.compose_config("train", plain, RunMode.MULTIRUN, with_log_configuration=False)
        jobs, composer = expand(given, blocks, seeds), Composer(hydra.config_loader, master)
        waits = "hydra/launcher=basic" not in arguments
        return jobs, links(jobs, composer, Capabilities(waits=waits)), composer

    return found


def order(found):
    return {number: link.after for number, link in found.items()}


@pytest.mark.parametrize("path, expected", [("up", {2: 0, 1: 2}), ("down", {2: 1, 0: 2}), ("null", {})])
def test_a_path_follows_the_strengths_in_order(linked, path, expected):
    _, found, _ = linked("regularizer=[l1]", STRENGTHS, path=path)
    assert order(found) == expected


def test_what_else_differs_makes_paths_of_its_own(linked):
    jobs, found, _ = linked("regularizer=[l1]", "regularizer.l1.strength=1,2", "optimizer=adam,sgd", "seed=0,1")
    paths = [(jobs[link.after].overrides, jobs[number].overrides) for number, link in found.items()]
    assert len(paths) == 4
    for before, after in paths:
        assert {*before} - {*after} == {"regularizer.l1.strength=1"}
        assert {*after} - {*before} == {"regularizer.l1.strength=2"}


def test_blocks_and_seeds(linked):
    blocks = [
        {"regularizer": []},
        {"regularizer": ["l1"], "regularizer.l1.strength": "1,2"},
        {"regularizer": ["l2"], "regularizer.l2.strength": "1,2"},
    ]
    _, found, _ = linked(blocks=blocks, seeds=2)
    assert order(found) == {2: 1, 4: 3, 7: 6, 9: 8}


def test_a_strength_is_followed_before_other_numbers(linked):
    given = ("regularizer=[l1]", "+regularizer.l1.ratio=0.5,1", "regularizer.l1.strength=1,2")
    assert order(linked(*given)[1]) == {1: 0, 3: 2}


def test_a_number_that_is_no_strength_is_followed_too(linked):
    assert order(linked("regularizer=[l1]", "+regularizer.l1.ratio=1,0.5")[1]) == {0: 1}


@pytest.mark.parametrize(
    "given, part",
    [
        (["regularizer=[l1]", "seed=0,1"], "no two jobs differ in a number of a regularizer"),
        (
            ["regularizer=[l1,l2]", "regularizer.l1.strength=1,2", "regularizer.l2.strength=1,2"],
            "follows one number, but",
        ),
        (["hydra/launcher=basic", "regularizer=[l1]", STRENGTHS], "needs hydra/launcher=fused, local or process"),
        (["sweep.path=sideways", "regularizer=[l1]", STRENGTHS], "null, up .* or down, got 'sideways'"),
        (["sweep.path=up,down", "regularizer=[l1]", STRENGTHS], "sweep.path holds for a whole sweep"),
    ],
)
def test_what_cannot_be_a_path_is_refused(linked, given, part):
    with pytest.raises(UserError, match=part):
        linked(*given) if not given[0].startswith("sweep.path") else linked(*given[1:], path=given[0].partition("=")[2])


def test_a_path_that_a_block_sets_for_itself_is_refused(linked):
    blocks = [{"regularizer": ["l1"], "regularizer.l1.strength": "1,2", "sweep.path": "down"}]
    with pytest.raises(UserError, match=r"sweep\.path holds for a whole sweep"):
        linked(blocks=blocks, path=None)


def test_a_trail_tells_all_that_was_trained_before(linked):
    trails = [
        {jobs[number].overrides[2]: link.trail for number, link in found.items()}
        for jobs, found, _ in (
            linked("regularizer=[l1]", f"regularizer.l1.strength={values}")
            for values in ("1,2,4", "1,3,4", "1.0,2,4,5")
        )
    ]
    last = "regularizer.l1.strength=4"
    assert trails[0][last] != trails[1][last]
    assert trails[0][last] == trails[2][last]
    assert len({trail for each in trails for trail in each.values()}) == 4  # after 1; 1, 2; 1, 3; 1, 2, 4


def test_a_path_is_another_sweep_than_the_same_jobs_from_their_initial_weights(linked):
    marks = set()
    for path in ("up", "down", "null"):
        jobs, found, composer = linked("regularizer=[l1]", STRENGTHS, path=path)
        marks.add(ledger.sweep_fingerprint(jobs, ledger.contents(jobs, composer, found)))
    assert len(marks) == 3


class Listening(Display):
    """Keeps the events."""

    events: list

    def on_event(self, event):
        super().on_event(event)
        self.events.append(event)


@pytest.fixture
def events(hydra, monkeypatch):
    """Run a path of the stand-ins and return what the launcher told, in order."""
    monkeypatch.setattr(task, "train_pack", standin_pack.train_pack)
    monkeypatch.setattr(local, "Display", Listening)
    monkeypatch.setattr(Listening, "events", [], raising=False)

    def run(*overrides, launcher="fused", one=standin_pack.train_one):
        words = [f"hydra/launcher={launcher}", "hydra.launcher.workers=2", "hydra.mode=MULTIRUN", "sweep.path=down"]
        every = rewrite([*overrides, "hydra.launcher.preload=[reglab.launchers.worker]", *words])
        result = hydra.multirun("train", one, every)
        return result, Listening.events

    return run


def in_order(events, paths):
    """Return whether each job of a path started after the one before it had ended."""
    starts = {job: [at for at, event in enumerate(events) if event == Started(job)] for path in paths for job in path}
    ends = {event.job: at for at, event in enumerate(events) if isinstance(event, Ended)}
    return all(ends[path[i]] < starts[path[i + 1]][0] for path in paths for i in range(len(path) - 1))


@pytest.mark.parametrize("launcher", ["fused", "local"])
def test_jobs_run_in_turn(events, launcher, capsys):
    result, said = events("regularizer=[l1]", STRENGTHS, "seed=0,1,2", launcher=launcher)
    assert result.complete
    assert in_order(said, [(3, 6, 0), (4, 7, 1), (5, 8, 2)])
    packed = [event.jobs for event in said if isinstance(event, Packed)]
    assert packed == ([(3, 4, 5), (6, 7, 8), (0, 1, 2)] if launcher == "fused" else [])
    assert "one after the other" not in capsys.readouterr().err


def test_one_path_alone_says_what_would_fuse(events, capsys):
    result, said = events("regularizer=[l1]", STRENGTHS)
    assert result.complete
    assert in_order(said, [(1, 2, 0)])
    assert "3 jobs train one by one: a path trains its jobs one after the other" in capsys.readouterr().err


def test_a_pack_that_comes_apart_is_waited_for(events):
    result, said = events("act=die", "regularizer=[l1]", "regularizer.l1.strength=1,2", "seed=0,1,2,3")
    assert result.complete
    assert in_order(said, [(4, 0), (5, 1), (6, 2), (7, 3)])


def test_a_failure_does_not_stop_the_path(events):
    acts = "act=crash"
    result, said = events(acts, "regularizer=[l1]", "regularizer.l1.strength=1,2", "seed=0,1")
    assert result.finished == 2  # one of each pack ends before it crashes
    assert in_order(said, [(2, 0), (3, 1)])


def test_a_job_is_told_where_it_starts(events):
    events("regularizer=[l1]", STRENGTHS, f"folder={Path.cwd()}", launcher="local", one=standin.note_request)
    names = {**vars(job_request), "PosixPath": Path}
    starts = [eval(Path(f"request-{job}").read_text(), names).start for job in range(3)]
    assert starts[1] is None
    assert [(start.after, start.folder) for start in (starts[2], starts[0])] == [
        (1, Path.cwd() / "out/1"),
        (2, Path.cwd() / "out/2"),
    ]
    assert starts[2].trail != starts[0].trail
