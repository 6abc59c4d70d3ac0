"""Compile a pack's traced steps with Inductor in a child process, with a timeout."""

import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from reglab.core import signals
from reglab.processes.child_processes import kill_group
from reglab.training.fused.compile_process import ERROR, Request, Settings
from reglab.training.fused.graph import Graph
from reglab.training.fused.operations import namespaces

_TICK = 0.05  # seconds
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from reglab.training.fused.compile_process import main; main()"
_KNOWN_NAMESPACES = frozenset(("aten", "prims", "prim", "reglab"))
_OUR_MODULES = ("reglab.rng.beta", "reglab.training.fused.convolution_operators")


class Compilation:
    """Compiles graphs by Inductor, ``torch.compile``'s own compiler, in a process that ends when
    this one does.

    It takes the traces as they are: no guards to check at each step. What it made is loaded by
    ``load``, in two to three seconds, and has the bits of what would be compiled here. It also
    fills Inductor's cache: a graph that was compiled before, for another pack or sweep, takes some
    seconds instead of half a minute.

    Args:
        graphs: With the tensors that each will be called with.
        seconds: After which compiling is given up.
        modules: Of the model and the regularizers, which may have operators of their own.
    """

    def __init__(self, graphs: Sequence[tuple[Graph, list[Tensor]]], seconds: float, modules: Sequence[str]) -> None:
        self.graphs, self.seconds = graphs, seconds
        self._folder = tempfile.TemporaryDirectory(prefix="reglab-compile-")
        self._reason = ""
        self._deadline = time.monotonic() + seconds
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start(modules)
        except (ValueError, TypeError, AttributeError, pickle.PicklingError, OSError) as error:
            self._reason = _first_line(error)

    def _start(self, modules: Sequence[str]) -> None:
        parts = [(graph.operations(), graph.layouts(tensors)) for graph, tensors in self.graphs]
        foreign = any(namespaces(operations) - _KNOWN_NAMESPACES for operations, _ in parts)
        settings = Settings(
            torch.get_num_threads(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
        )
        imports = [name for name in modules if name != "__main__"] if foreign else []
        content = pickle.dumps(Request(parts, self._folder.name, settings, (*_OUR_MODULES, *imports)))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C goes to the sweep alone
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(len(content).to_bytes(8, "big") + content)
            self._process.stdin.flush()  # and left open: the child exits at its end of file

    @property
    def done(self) -> bool:
        """Whether the process has ended or the time limit is over."""
        return self._process is None or self._process.poll() is not None or time.monotonic() >= self._deadline

    def wait(self) -> None:
        """Wait until it is over.

        Raises:
            Interrupted: Where a signal asks to end.
        """
        while not self.done:
            if number := signals.stop_signal():
                raise signals.Interrupted(number)
            time.sleep(_TICK)

    def load(self) -> bool:
        """Switch the graphs to their compiled versions and return whether all were compiled; call
        it once ``done``.

        Otherwise ``reason`` says why not; that graph and later ones stay eager.
        """
        for number, (graph, tensors) in enumerate(self.graphs):
            path = Path(self._folder.name, str(number))
            if not path.exists():
                self._reason = self._reason or self._failure()
                return False
            try:
                graph.adopt(_loaded(path), tensors)
            except Exception as error:  # noqa: BLE001 - compilers fail in many ways; training continues uncompiled
                self._reason = _first_line(error)
                return False
        return True

    @property
    def reason(self) -> str:
        """Why compilation failed."""
        return self._reason

    def _failure(self) -> str:
        if self._process is not None and self._process.poll() is None:
            return f"compiling took more than {self.seconds:g} s"
        with suppress(OSError):
            return (
                f"compiling failed ({Path(self._folder.name, ERROR).read_text(encoding='utf-8').splitlines()[0][:200]})"
            )
        return f"compiling failed (its process ended with exit code {self._process.returncode if self._process else 1})"

    def close(self) -> None:
        """Kill the child process and its compilers, and delete their files."""
        process, self._process = self._process, None
        if process is not None:
            kill_group(process)
            process.wait()
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
        self._folder.cleanup()


def _loaded(path: Path) -> Callable[..., Sequence[Tensor]]:
    from torch._inductor.standalone_compile import CompiledArtifact  # late: it takes seconds

    run: Callable[..., Sequence[Tensor]] = CompiledArtifact.load(path=str(path), format="binary")
    return run


def _first_line(error: BaseException) -> str:
    return f"compiling failed ({(str(error).strip() or type(error).__name__).splitlines()[0][:200]})"
