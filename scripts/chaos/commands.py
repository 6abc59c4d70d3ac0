"""Commands of reglab that can be killed.

As new interpreters, or forked from a process that has imported everything.

Forked ones do what ``python -m reglab`` does, without the ten seconds of imports.
"""

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import popen_fork
from pathlib import Path
from typing import Any

import psutil

os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"})
_to_workers: list[int] = []
_DEADLINE = 900.0  # seconds after which a command counts as hanging


class Command:
    """``reglab WORDS`` running in ``home``, the leader of a session of its own.

    What it says is in ``output``.

    warm: forked from this process. prepare: called in the forked process first.
    """

    def __init__(
        self, home: Path, words: Sequence[str], warm: bool = False, prepare: Callable[[], object] | None = None
    ) -> None:
        self.output = home / "output.txt"
        self.words = list(words)
        self._code: int | None = None
        with self.output.open("ab") as file:
            file.write(f"\n$ reglab {' '.join(words)}\n".encode())
            file.flush()
            self._from = file.tell()
            if warm:
                self._process = None
                self.pid = os.fork() or _become(home, words, file.fileno(), prepare)
                return
            command = [sys.executable, "-m", "reglab", *words]
            self._process = subprocess.Popen(
                command, cwd=home, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
            self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, -n where signal n ended it, None while it runs."""
        if self._process:
            return self._process.poll()
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self) -> int:
        """Return the exit code. Raises RuntimeError, with what it said, for one that hangs."""
        limit = time.monotonic() + _DEADLINE
        while (code := self.poll()) is None:
            if time.monotonic() > limit:
                self.kill_all()
                raise RuntimeError(f"it hangs: {' '.join(self.words)}\n{self.said()[-3000:]}")
            time.sleep(0.005)
        return code

    def said(self) -> str:
        """Return what it has printed."""
        return self.output.read_bytes()[self._from :].decode(errors="replace")

    def session(self) -> list[psutil.Process]:
        """Return the processes of its session that live, itself among them."""
        found = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """Return the sweep's workers: each leads a process group of its own."""
        return [each for each in self.session() if each.pid != self.pid and _leads(each.pid)]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the command's own process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Kill its process group: the workers of a sweep are in others."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill every process of its session, as a machine that goes away does."""
        while left := self.session():
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            self.poll()


def preload() -> None:
    """Import all that commands need, so that forked ones start at once.

    No thread may run in this process.
    """
    import sklearn.datasets  # noqa: F401 - for the forked processes, as the others

    import reglab.cli.resume
    import reglab.cli.sync_clean
    import reglab.cli.train
    import reglab.tracking.full_series
    import reglab.tracking.mlflow.read
    import reglab.tracking.mlflow.runs
    import reglab.tracking.mlflow.sync
    import reglab.training.fused.job
    import reglab.training.job  # noqa: F401


def run(home: Path, words: Sequence[str], warm: bool = False, codes: Sequence[int] = (0,)) -> str:
    """Run a command to its end and return what it said.

    Raises RuntimeError for another exit code than ``codes``.
    """
    command = Command(home, words, warm)
    code = command.wait()
    if code not in codes:
        raise RuntimeError(f"reglab {' '.join(words)}: exit code {code}\n{command.said()[-3000:]}")
    return command.said()


def go_on(home: Path, words: Sequence[str]) -> None:
    """Go on with the run alone in ``home`` as a user would.

    Resume it, or where it had hardly begun, begin again.
    """
    begun = sorted(path.parent for path in home.glob("runs/*/*/journal.jsonl"))
    said = run(home, ["resume", str(begun[-1])], warm=True, codes=(0, 2)) if begun else "cannot be resumed"
    if not any(each in said for each in ("cannot be resumed", "holds no run", "no run")):
        return
    for path in begun:
        run(home, ["sync", str(path)], warm=True, codes=(0, 2))
        shutil.move(path, home / f"given-up-{path.name}")
    run(home, words, warm=True)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``function(*arguments)``, computed in a forked process.

    Threads and connections that it opens die with it.

    Raises RuntimeError, with the traceback, where it raises or dies.
    """
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        with os.fdopen(theirs, "wb") as pipe:
            try:
                pickle.dump((True, function(*arguments)), pipe)
            except BaseException:  # noqa: BLE001 - told to the parent
                pickle.dump((False, traceback.format_exc()), pipe)
            pipe.flush()
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    good, value = pickle.loads(answer) if answer else (False, "it died without a word")
    if not good:
        raise RuntimeError(value)
    return value


def _become(home: Path, words: Sequence[str], output: int, prepare: Callable[[], object] | None) -> Any:
    """Be the command, in a process that was just forked. Does not return."""
    code = 1
    try:
        os.setsid()
        os.chdir(home)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["reglab", *words]
        import reglab.launchers.local as local
        import reglab.sweeps.data_check as data_check
        from reglab.cli.command import main

        for user in (local, data_check):
            # a server would import all again.
            user.start_server = lambda *_: multiprocessing.get_context("fork")
        popen_fork.Popen._launch = _launch
        if prepare:
            prepare()
        code = main(list(words))
    except BaseException:  # noqa: BLE001 - what Python would do at the end of a program
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _launch(popen: popen_fork.Popen, process: Any) -> None:
    """Fork a worker as ``Popen`` does, without the pipes by which its brothers notice that their parent is gone."""
    parent_reads, child_writes = os.pipe()
    child_reads, parent_writes = os.pipe()
    popen.pid = os.fork()
    if popen.pid == 0:
        for number in (parent_reads, parent_writes, *_to_workers):
            os.close(number)
        os._exit(process._bootstrap(parent_sentinel=child_reads))
    os.close(child_writes)
    os.close(child_reads)
    _to_workers.append(parent_writes)
    popen.sentinel = parent_reads
    popen.finalizer = None


def _leads(pid: int) -> bool:
    with suppress(ProcessLookupError):
        return os.getpgid(pid) == pid
    return False
