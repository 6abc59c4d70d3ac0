"""``subprocess.run`` and ``Popen`` of ``python ...`` in forks of a process that has imported reglab and its libraries.

A command of reglab costs five seconds of imports, and a sweep's fork server as many again; a fork
costs none. It has its own working folder, environment, streams, session, exit and fork server.

For what is no matter of a new interpreter: what one reads as it starts (``PYTHON...`` variables,
``OMP_NUM_THREADS``) is as it was here. The forks of a test process have the same hash seed.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from fcntl import F_DUPFD, fcntl
from multiprocessing import util
from pathlib import Path
from typing import Any

from reglab.processes.rank_processes import free_port

_ENVIRONMENT = dict(os.environ)  # before any test changes it
_FREE = 512  # descriptors from here on are used by nobody
_MAX_BYTES = 2**20


class Popen:
    """``python ARGUMENTS`` as the leader of a session of its own, with pipes for what it says.

    Args:
        arguments: What stands behind ``python``: ``-m MODULE``, ``-c CODE`` or a file, and its words.
        cwd: Its working folder.
        env: All of its environment; None for that of this process.
        interpreters: How many interpreters that ``multiprocessing`` asks for are forked too; later ones are new.
    """

    def __init__(
        self, arguments: Sequence[object], cwd: Path, env: Mapping[str, str] | None = None, interpreters: int = 1
    ) -> None:
        self.args = [str(word) for word in arguments]
        self.returncode: int | None = None
        pipes = [os.pipe(), os.pipe()]
        asked = {
            "arguments": self.args,
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
            "interpreters": interpreters,
        }
        self.pid = _server().ask(asked, [theirs for _, theirs in pipes])
        self._ended = os.pidfd_open(self.pid)
        weakref.finalize(self, os.close, self._ended)
        self._one_asks = threading.Lock()
        for _, theirs in pipes:
            os.close(theirs)
        self.stdout, self.stderr = (os.fdopen(ours, encoding="utf-8", errors="replace") for ours, _ in pipes)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, -n where signal n ended it. Raises TimeoutExpired."""
        if self.returncode is None and not select.select([self._ended], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        with self._one_asks:
            if self.returncode is None:
                self.returncode = _server().ask({"ended": self.pid})
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def communicate(self) -> tuple[str, str]:
        """Return what it, and whoever has its streams, said until all of them ended."""
        with ThreadPoolExecutor(2) as threads, self.stdout, self.stderr:
            said, errors = threads.map(lambda stream: stream.read(), (self.stdout, self.stderr))
        self.wait()
        return said, errors

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def run(arguments: Sequence[object], **given: Any) -> "subprocess.CompletedProcess[str]":
    """Run ``python ARGUMENTS`` to its end, with the arguments of ``Popen``."""
    process = Popen(arguments, **given)
    said, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.wait(), said, errors)


def torchrun(ranks: int, arguments: Sequence[object], cwd: Path, **variables: str) -> None:
    """Run ``torchrun --nproc-per-node=RANKS ARGUMENTS``. Raises AssertionError with what the first to fail said."""
    common = {
        **variables,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "WORLD_SIZE": ranks,
        "LOCAL_WORLD_SIZE": ranks,
    }
    common |= {"GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": 0}
    processes = []
    for rank in range(ranks):
        own = {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        processes.append(Popen(arguments, cwd, {**os.environ, **own}, interpreters=0))
    failed = ""
    with ThreadPoolExecutor(ranks) as threads:
        ends = {threads.submit(process.communicate): process for process in processes}
        for end in as_completed(ends):
            if (code := ends[end].wait()) and not failed:
                failed = end.result()[1] or f"exit code {code}"
                for process in processes:  # they would wait for it
                    process.send_signal(signal.SIGKILL)
    assert not failed, failed


class _Server:
    """The process that has imported everything."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            cwd=Path(__file__).parents[1],
            env=_ENVIRONMENT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # forks write to pipes, too
            stderr=subprocess.STDOUT,
            text=True,
        )
        theirs.close()
        self._one_at_a_time = threading.Lock()
        atexit.register(self._end)

    def ask(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> int:
        """Send a message and return the answer."""
        with suppress(OSError), self._one_at_a_time:
            socket.send_fds(self._channel, [json.dumps(message).encode()], descriptors)
            if answer := self._channel.recv(_MAX_BYTES):
                return int(answer)
        raise RuntimeError(f"the process that forks has died: {self._end()}")

    def _end(self) -> str:
        atexit.unregister(self._end)
        self._channel.close()
        return self._process.communicate()[0]


@functools.cache
def _server() -> _Server:
    return _Server()


def _serve(channel: socket.socket) -> dict[str, Any]:
    """Fork as the test process asks; return, in each fork, what was asked."""
    while True:
        packet, descriptors, _, _ = socket.recv_fds(channel, _MAX_BYTES, 2)
        if not packet:
            os._exit(0)
        asked = json.loads(packet)
        if "ended" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["ended"], 0)[1])
        elif (answer := os.fork()) == 0:
            channel.close()
            for number, given in enumerate(descriptors, 1):
                os.dup2(given, number)
                os.close(given)
            os.setsid()
            _place(asked)
            return asked
        for given in descriptors:
            os.close(given)
        channel.send(str(answer).encode())


def _place(asked: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])


def _become(arguments: list[str]) -> None:
    """Do what ``python ARGUMENTS`` does."""
    first, *words = arguments
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if first == "-m":
        sys.argv, sys.path[0] = words, str(Path.cwd())
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv, sys.path[0] = ["-c", *words[1:]], ""
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(words[0], module.__dict__)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


def _fork_interpreters(count: int) -> None:
    """Have ``multiprocessing`` fork its next interpreters from processes that are forked now, and know nothing."""
    idle: list[tuple[socket.socket, int]] = []
    for _ in range(count):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if (pid := os.fork()) == 0:
            for one in (ours, *(channel for channel, _ in idle)):
                one.close()
            _wait_for_use(theirs)
        theirs.close()
        idle.append((ours, pid))
    new = util.spawnv_passfds

    def forked(path: object, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        code = arguments.index("-c")
        known = ("from multiprocessing.forkserver", "from multiprocessing.spawn")
        if not idle or not arguments[code + 1].startswith(known):
            return new(path, arguments, descriptors)
        channel, pid = idle.pop(0)
        asked = {
            "arguments": list(arguments[code:]),
            "cwd": os.getcwd(),  # noqa: PTH109 - as a string
            "env": dict(os.environ),
            "numbers": list(descriptors),
            "blocked": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
            "interrupts": signal.getsignal(signal.SIGINT) != signal.SIG_IGN,
        }
        socket.send_fds(channel, [json.dumps(asked).encode()], descriptors)
        channel.close()
        return pid

    util.spawnv_passfds = forked


def _wait_for_use(channel: socket.socket) -> None:
    """Wait to become an interpreter of ``multiprocessing``; does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    packet, descriptors, _, _ = socket.recv_fds(channel, _MAX_BYTES, 64)
    if not packet:
        os._exit(0)  # nobody needs it
    asked = json.loads(packet)
    channel.close()
    kept = [fcntl(given, F_DUPFD, _FREE) for given in descriptors]
    for given in descriptors:
        os.close(given)
    for given, number in zip(kept, asked["numbers"], strict=True):  # of its parent, where they are free but for these
        os.dup2(given, number)
        os.close(given)
    _place(asked)
    if asked["interrupts"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, asked["blocked"])
    _become(asked["arguments"])
    sys.exit()


def _main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = str(Path(__file__).parents[1])
    importlib.import_module("scripts.chaos.commands").preload()
    assert threading.active_count() == 1, "a fork has one thread of several"
    gc.freeze()
    asked = _serve(channel)
    _fork_interpreters(asked["interpreters"])
    _become(asked["arguments"])


if __name__ == "__main__":
    _main()
