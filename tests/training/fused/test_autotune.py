"""What is decided from timings; the timings themselves are given, so that no clock decides
a test.
"""

import fused_harness as fused
import pytest
import torch

from reglab.core.errors import Unfused
from reglab.training.fused import autotune
from reglab.training.fused.autotune import choose
from reglab.training.fused.benchmark import Benchmark
from reglab.training.fused.graph import Graph
from reglab.training.fused.pack import Pack

STEPS = 100  # of the harness's job


def pack(members: int = 3, kind: type[Pack] = Pack) -> Pack:
    made = kind([fused.job(seed=number) for number in range(members)])
    made.to(torch.device("cpu"))
    return made


def given(step: float, solo: float, compiled: float | None = None, memory: int = 10**12) -> Benchmark:
    """A benchmark in which a fused step takes these seconds, eager and compiled, and a solo step those."""
    alone = iter([solo] if compiled is None else [solo, compiled])  # asked in this order
    return Benchmark(lambda *_: next(alone), lambda *_: (step, solo), lambda _: memory)


def test_short_jobs_go_one_by_one_before_anything_is_traced() -> None:
    class Untraced(Pack):
        def graph(self, rows: torch.Tensor) -> Graph:
            pytest.fail("it was traced")

    with pytest.raises(Unfused, match=r"would not be quicker: about .* s for 3 jobs") as refused:
        choose(pack(kind=Untraced), None, benchmark=given(step=1e-4, solo=1e-3))
    assert refused.value.groups == ()  # each by itself


def test_a_fused_step_that_takes_longer_than_the_members_alone_is_refused() -> None:
    with pytest.raises(Unfused, match=r"would not be quicker: about 50\.0 s for 3 jobs, 31\.2 s one by one"):
        choose(pack(), compile_=False, benchmark=given(step=0.5, solo=0.1))
    assert choose(pack(), compile_=False, always=True, benchmark=given(step=0.5, solo=0.1)).step == 0.5


def test_it_is_compiled_where_the_steps_to_come_are_worth_it() -> None:
    def compiled(share: float, compile_: bool | None) -> bool:
        worth = autotune.WORTH_COMPILING / STEPS
        return choose(pack(), compile_, benchmark=given(step=share * worth, solo=worth)).compiled

    assert compiled(1.1, None)
    assert not compiled(1.1, False)
    assert not compiled(0.9, None)
    assert compiled(0.9, True)


@pytest.mark.parametrize("compiles", [True, False])
def test_where_only_a_compiled_step_pays_it_is_compiled_first(compiles: bool) -> None:
    class Stub(Pack):
        def compile(self) -> None:
            self.compiled = compiles

    if compiles:  # three members alone take 0.3 s
        chosen = choose(pack(kind=Stub), None, benchmark=given(step=0.5, solo=0.1, compiled=0.1))
        assert (chosen.compiled, chosen.ready, chosen.step) == (True, True, 0.1)
    else:
        with pytest.raises(Unfused, match="would not be quicker"):
            choose(pack(kind=Stub), None, benchmark=given(step=0.5, solo=0.1, compiled=0.5))


def test_what_memory_does_not_hold_comes_apart_in_halves() -> None:
    with pytest.raises(Unfused, match=r"5 members need .* GB of memory") as refused:
        choose(pack(5), None, always=True, benchmark=given(step=0.1, solo=0.1, memory=10_000))
    assert refused.value.groups == ((0, 1), (2, 3, 4))
