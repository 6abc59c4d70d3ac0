"""Compiling in a child process: what it makes, when it is given up, and that it never outlives
anyone.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fused_harness as fused
import laws_harness as harness
import psutil
import pytest
import torch

from reglab.config.pack_settings import PackSettings
from reglab.training.fused.compilation import Compilation
from reglab.training.fused.graph import Graph
from reglab.training.fused.pack import Pack

LONG = 600.0  # seconds: no clock decides a test, but none hangs
# A library of a user's own: its operator works here, but where a child imports it, that never ends.
SPINNING = """
    import os
    import torch

    @torch.library.custom_op("spinning::same", mutates_args=())
    def same(values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    same.register_fake(torch.empty_like)
    while os.environ.get("SPIN"):
        pass
"""


@pytest.fixture
def spinning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "spinning_library.py").write_text(textwrap.dedent(SPINNING))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "spinning_library"
    sys.modules.pop("spinning_library", None)


def traced(library: str) -> tuple[Graph, list[torch.Tensor]]:
    module = __import__(library)
    values = torch.zeros(3)
    graph = Graph(lambda inputs: module.same(inputs) + 1, (values,))
    return graph, [values]


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + LONG
    while not ended(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


def test_what_takes_too_long_is_given_up_and_ended(spinning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, tensors = traced(spinning)
    monkeypatch.setenv("SPIN", "1")
    started = Compilation([(graph, tensors)], 0.5, [spinning])
    assert started._process is not None
    child = started._process.pid
    started.wait()
    assert not started.load()
    assert started.reason == "compiling took more than 0.5 s"
    assert not graph.compiled
    assert not ended(child)
    started.close()
    assert ended(child)
    assert graph.run(tensors).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_it_dies_with_its_parent_whatever_ended_that(spinning: str, tmp_path: Path) -> None:
    script = f"""
        import sys, time
        sys.path[:0] = [{str(tmp_path)!r}, {str(Path(__file__).parent)!r}]
        import os
        from reglab.training.fused.compilation import Compilation
        from test_compilation import traced
        graph, tensors = traced("spinning_library")
        os.environ["SPIN"] = "1"
        started = Compilation([(graph, tensors)], 1e6, ["spinning_library"])
        print(started._process.pid, flush=True)
        time.sleep(1e6)
    """
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert not ended(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_for_end(child)


def test_what_fails_there_is_one_line_here(spinning: str) -> None:
    started = Compilation([traced(spinning)], LONG, ["no_such_library_at_all"])
    started.wait()
    assert not started.load()
    assert started.reason == "compiling failed (ModuleNotFoundError: No module named 'no_such_library_at_all')"
    started.close()


def test_a_step_that_cannot_be_sent_is_not_compiled() -> None:
    def looping(values: torch.Tensor) -> torch.Tensor:
        return torch.cond(values.sum() > 0, lambda inner: inner + 1, lambda inner: inner - 1, (values,))

    values = torch.ones(3)
    started = Compilation([(Graph(looping, (values,)), [values])], LONG, [])
    assert started.done
    assert not started.load()
    assert started.reason.startswith("compiling failed (the step contains a get_attr node")
    started.close()


def members() -> dict[str, object]:
    actual: dict[str, object] = {}
    for name in ("dropout", "l1", "label_smoothing", "ema", "mixup"):
        actual |= harness.members(name)
    return actual


def after_an_epoch(compiled: bool) -> Pack:
    """Return a pack after an epoch of four whole batches and a smaller one."""
    jobs = [
        fused.job(members(), seed=number, precision="32-true", model=fused.net(number, dtype=torch.float32))
        for number in range(3)
    ]
    jobs = [replace(job, recipe=replace(job.recipe, batch_size=10)) for job in jobs]
    pack = Pack(jobs, PackSettings(compile_seconds=LONG))
    pack.to(torch.device("cpu"))
    pack.choose(compiled, {}, ragged=compiled)
    numbers = pack.numbers(0, pack.schedules.numbers(0, 100))
    for chunk in pack.loader:
        for rows in chunk:
            pack.step(rows, numbers[pack.done()])
    return pack


def test_the_main_jobs_cocktail_compiles_and_does_what_it_did_uncompiled() -> None:
    """Mixup and dropout in one pack, both batch sizes.

    Compiled again, as by a resumed pack, it has the same bits.
    """
    eager, compiled, again = (after_an_epoch(compiled) for compiled in (False, True, True))
    assert compiled.compiled
    assert {shape[-1]: graph.compiled for shape, graph in compiled._graphs.items()} == {10: True, 4: True}
    assert eager.done() == compiled.done() == 5
    for name, tensor in eager.stack.weights.items():
        torch.testing.assert_close(compiled.stack.weights[name], tensor, rtol=1e-4, atol=1e-5)
        assert torch.equal(compiled.stack.weights[name], again.stack.weights[name])
