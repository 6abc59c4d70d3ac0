"""What a launcher declares decides what a sweep may ask for, whatever the launcher is called."""

from pathlib import Path

import pytest
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from launchers import standin
from reglab.core.errors import UserError
from reglab.launchers.events import Ended
from reglab.launchers.request_launcher import Capabilities, RequestLauncher, capabilities_of
from reglab.sweeps.sweep import run_sweep

PATH = ["regularizer=[l1]", "regularizer.l1.strength=1,2", "+sweep.path=up"]


class Noting(RequestLauncher):
    """Ends every job at once, and keeps what it was given."""

    def __init__(self, **can):
        self.capabilities, self.requests = Capabilities(**can), []

    def run(self, requests, composer):
        self.requests += requests
        return {request.number: Ended(request.number, "FINISHED") for request in requests}


class Foreign(Launcher):
    """A launcher as Hydra knows it: text in."""

    def __init__(self):
        self.given = []

    def setup(self, **given):
        pass

    def launch(self, job_overrides, initial_job_idx):
        self.given += job_overrides
        return [JobReturn(overrides=list(each)) for each in job_overrides]


@pytest.fixture
def sweep(hydra):
    """Run a sweep by a launcher."""

    def sweep(launcher, *words):
        from hydra.types import RunMode

        fixed = [word for word in words if "," not in word]
        master = hydra.compose_config("train", [*fixed, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        return run_sweep(list(words), master, hydra.config_loader, launcher)

    return sweep


def test_a_launcher_of_hydras_own_declares_nothing():
    assert capabilities_of(Foreign()) == Capabilities() == Capabilities(False, False, False, False)


@pytest.mark.parametrize("launcher", [Foreign(), Noting(fuses=True)])
def test_without_waiting_there_is_no_path(sweep, launcher):
    with pytest.raises(UserError, match=r"sweep\.path=up needs hydra/launcher=fused, local or process"):
        sweep(launcher, *PATH)
    assert not Path("out").exists()


def test_one_that_can_wait_gets_the_start_of_each_job_of_a_path(sweep):
    launcher = Noting(waits=True)
    assert sweep(launcher, *PATH).complete
    first, second = launcher.requests
    assert (first.number, first.start, first.folder) == (0, None, Path("out/0").absolute())
    assert (second.start.after, second.start.folder) == (0, first.folder)


def test_without_devices_to_assign_several_are_refused(sweep):
    words = ["+trainer={devices: 2, accelerator: cpu}", "seed=0,1"]
    with pytest.raises(UserError, match="jobs of a sweep train on one device each"):
        sweep(Noting(waits=True), *words)
    launcher = Noting(assigns_devices=True)
    assert sweep(launcher, *words).complete
    assert [request.number for request in launcher.requests] == [0, 1]


@pytest.mark.parametrize("shows", [True, False])
def test_one_that_shows_nothing_is_told_how_to_be_watched(sweep, shows, capsys):
    assert sweep(Noting(shows_progress=shows), "seed=0,1").complete
    assert ("to watch them: reglab dashboard" in capsys.readouterr().err) != shows


def test_one_of_hydras_own_gets_a_job_s_request_among_its_overrides(sweep):
    launcher = Foreign()
    assert not sweep(launcher, "seed=5,6").complete  # it tells no end
    assert [(each[0], each[1].partition("=")[0]) for each in launcher.given] == [
        ("seed=5", "++reglab_request"),
        ("seed=6", "++reglab_request"),
    ]


@pytest.mark.parametrize("words", [PATH, ["seed=0,1"]])
def test_ours_are_the_same_under_another_name(conf, hydra, words, capsys):
    """Nothing asks how a launcher is called, or where its class is."""
    file = conf / "hydra/launcher/mine.yaml"
    file.parent.mkdir()
    file.write_text(
        "_target_: hydra_plugins.reglab_plugins.launcher.LocalLauncher\nworkers: 1\nthreads: 1\n"
        "preload: [reglab.launchers.worker]\n"
    )
    result = hydra.multirun("train", standin.task, [*words, "hydra/launcher=mine", "hydra.mode=MULTIRUN"])
    assert result.complete
    assert "2 finished" in (told := capsys.readouterr().err)
    assert "to watch them" not in told


def test_another_sweeper_s_jobs_are_numbered_as_hydra_does(hydra, capsys):
    words = ["seed=0,1", "hydra/sweeper=basic", "hydra.launcher.workers=1", "hydra.mode=MULTIRUN"]
    (returns,) = hydra.multirun("train", standin.task, words)
    assert [each._return_value.run_id for each in returns] == ["run-0", "run-1"]
