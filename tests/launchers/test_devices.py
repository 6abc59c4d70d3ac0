"""Which GPUs there are, how many a job takes, and how slots share them."""

from types import SimpleNamespace

import pytest

from reglab.core.errors import UserError
from reglab.launchers import devices
from reglab.launchers.devices import devices_needed, gpu_slots, visible_gpus

LISTING = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-11111111-aaaa)
  MIG 1g.5gb      Device  0: (UUID: MIG-21111111-aaaa)
  MIG 1g.5gb      Device  1: (UUID: MIG-31111111-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-41111111-aaaa)
"""
FOUR = ("0", "1", "2", "3")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with what ``LISTING`` says, and nothing in the environment."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=LISTING))
    devices._installed_gpus.cache_clear()
    yield monkeypatch
    devices._installed_gpus.cache_clear()


def test_all_gpus_of_the_machine_divided_ones_by_their_parts():
    assert visible_gpus() == ("MIG-21111111-aaaa", "MIG-31111111-aaaa", "1")


def test_no_driver_no_gpus(machine):
    machine.setattr(devices.shutil, "which", lambda name: None)
    assert visible_gpus() == ()


@pytest.mark.parametrize(
    "given, visible", [("2,3", ("2", "3")), ("", ()), ("-1", ()), ("1,-1,2", ("1",)), ("GPU-4", ("GPU-4",))]
)
def test_what_this_process_sees_counts(given, visible, machine):
    machine.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus() == visible


def test_a_part_of_what_is_seen(machine):
    machine.setenv("CUDA_VISIBLE_DEVICES", "1,2,3")
    assert visible_gpus([3, 1]) == ("3", "1")
    assert visible_gpus([]) == ()


@pytest.mark.parametrize(
    "wanted, part",
    [(2, "a list such as"), ("0,1", "a list such as"), (["x"], "is not a GPU"), ([0], "not among"), ([2, 2], "twice")],
)
def test_gpus_that_make_no_sense_are_refused(wanted, part, machine):
    machine.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    with pytest.raises(UserError, match=part):
        visible_gpus(wanted)


@pytest.mark.parametrize(
    "trainer, gpus, count",
    [
        ({"devices": 2}, FOUR, 2),
        ({"devices": "2"}, FOUR, 2),
        ({"devices": [0, 1]}, FOUR, 2),
        ({"devices": "auto"}, FOUR, None),
        ({}, FOUR, None),
        ({"devices": -1}, FOUR, None),
        ({"devices": "auto"}, (), 1),
        ({"devices": "auto", "accelerator": "cpu"}, FOUR, 1),
        ({"devices": 8, "accelerator": "cpu"}, FOUR, 8),
    ],
)
def test_what_a_job_takes(trainer, gpus, count):
    assert devices_needed(trainer, gpus) == count


@pytest.mark.parametrize(
    "trainer, part",
    [
        ({"devices": 5}, "may use only 4 GPUs"),
        ({"devices": [2, 3]}, "hydra.launcher.gpus"),
        ({"devices": 0}, "is not a number of devices"),
        ({"devices": "many"}, "is not a number of devices"),
        ({"devices": 1, "num_nodes": 2}, "trains jobs on one machine"),
    ],
)
def test_what_no_slot_can_give_is_refused(trainer, part):
    with pytest.raises(UserError, match=part):
        devices_needed(trainer, FOUR)


@pytest.mark.parametrize(
    "trainers, workers, dealt",
    [
        ([{"devices": 1}], None, [("0",), ("1",), ("2",), ("3",)]),
        ([{"devices": "auto"}], None, [("0",), ("1",), ("2",), ("3",)]),
        ([{"devices": 1}, {"devices": 2}], None, [("0", "1"), ("2", "3")]),
        ([{"devices": 3}], None, [("0", "1", "2")]),
        ([{"devices": 1}], 2, [("0",), ("1",)]),
        ([{"devices": "auto"}], 2, [("0", "1"), ("2", "3")]),
        ([{"devices": 1}], 6, [("0",), ("1",), ("2",), ("3",), ("0",), ("1",)]),
        ([{"devices": 1, "accelerator": "cpu"}], 3, [(), (), ()]),
    ],
)
def test_slots(trainers, workers, dealt):
    assert gpu_slots(trainers, FOUR, workers, 1) == dealt


def test_without_gpus_a_slot_for_the_threads_of_all_ranks_of_a_job(monkeypatch):
    monkeypatch.setattr("reglab.launchers.local.cores", lambda: 12)
    assert gpu_slots([{"devices": 2}, {"devices": 1}], (), None, 3) == [(), ()]
