"""Workers that read ahead: in order, again and again, from a daemon too, and gone when their process is."""

import signal
import subprocess
import sys
from itertools import repeat
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
import psutil
import pytest
import torch

from reglab.core.errors import UserError
from reglab.data.array_reader import ArrayReader
from reglab.data.read_ahead import ReadAhead

VALUES = np.random.default_rng(0).normal(size=(60, 2, 3)).astype(np.float32)
BATCHES = np.array_split(np.random.default_rng(1).permutation(60), 12)


class Failing(ArrayReader):
    """A row cannot be read."""

    def read(self, rows):
        if 17 in rows:
            raise UserError("row 17 is gone")
        return super().read(rows)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_and_draw_nothing(workers):
    ahead, before = ReadAhead(ArrayReader(VALUES), workers), torch.get_rng_state()
    for _ in range(2):
        for read, rows in zip(ahead.read(BATCHES), BATCHES, strict=True):
            np.testing.assert_array_equal(read, VALUES[rows])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_processes_serve_one_order_after_another_and_end_with_it():
    before = children()
    ahead = ReadAhead(ArrayReader(VALUES), 2)
    list(ahead.read(BATCHES))
    first = children() - before
    list(ahead.read(BATCHES))
    assert len(first) == 2
    assert children() - before == first
    endless = ahead.read(repeat(BATCHES[0]))  # of training, while something is measured
    next(endless)
    np.testing.assert_array_equal(next(ahead.read(BATCHES)), VALUES[BATCHES[0]])
    del endless, ahead
    assert children() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_worker_raises_is_one_sentence(workers):
    read = ReadAhead(Failing(VALUES), workers).read(BATCHES)
    with pytest.raises(UserError, match=r"^row 17 is gone$"):
        list(read)


def test_a_worker_that_is_killed_is_told():
    before = children()
    read = ReadAhead(ArrayReader(VALUES), 2).read(repeat(BATCHES[0]))
    next(read)
    for worker in children() - before:
        psutil.Process(worker).kill()
    with pytest.raises(UserError, match=r"a process that reads the data has ended .*lower data\.workers"):
        list(read)


def _in_daemon(pipe: Connection) -> None:
    pipe.send([read.tolist() for read in ReadAhead(ArrayReader(VALUES), 2).read(BATCHES)])


def test_a_daemon_such_as_a_sweeps_worker_has_workers_too():
    ours, theirs = get_context("fork").Pipe()
    process = get_context("fork").Process(target=_in_daemon, args=(theirs,), daemon=True)
    process.start()
    assert ours.recv() == [VALUES[rows].tolist() for rows in BATCHES]
    process.join()


def test_workers_end_when_their_process_is_killed():
    """Also those that wait for somebody to read what they have."""
    program = """if True:
        import itertools, os, signal, numpy as np, psutil
        from reglab.data.array_reader import ArrayReader
        from reglab.data.read_ahead import ReadAhead
        read = ReadAhead(ArrayReader(np.zeros((8, 200_000), np.float32)), 2).read(itertools.repeat(np.arange(8)))
        next(read)
        print(*(child.pid for child in psutil.Process().children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    workers = [psutil.Process(int(pid)) for pid in done.stdout.split() if psutil.pid_exists(int(pid))]
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
