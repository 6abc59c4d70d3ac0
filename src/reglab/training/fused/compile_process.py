"""Child process that runs Inductor on a pack's traced steps."""

import os
import pickle
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglab.processes.parent_watch import exit_with_parent

if TYPE_CHECKING:
    from reglab.training.fused.operations import Layout, Operation

ERROR = "error"  # file that holds the error that ended compilation


@dataclass(frozen=True)
class Settings:
    """Torch's global settings that affect compilation."""

    threads: int
    precision: str
    deterministic: bool


@dataclass(frozen=True)
class Request:
    """What is to be compiled.

    Args:
        graphs: Operations with the layouts of their inputs.
        folder: Where the result of the first goes to ``0``, of the second to ``1``.
        modules: To import first, for operators of a user's own.
    """

    graphs: "Sequence[tuple[list[Operation], list[Layout]]]"
    folder: str
    settings: Settings
    modules: Sequence[str] = field(default_factory=tuple)


def main() -> None:
    """Compile the request on standard input; end of file there means that the parent has exited."""
    source = sys.stdin.fileno()
    size = int.from_bytes(_read(source, 8), "big")
    content = _read(source, size)
    exit_with_parent(grace=0, terminate=False, parent_alive=lambda: bool(os.read(source, 1)))
    request: Request = pickle.loads(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _compile(request)
    except BaseException as error:  # noqa: BLE001 - compilers fail in many ways
        Path(request.folder, ERROR).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        os._exit(1)
    os._exit(0)


def _compile(request: Request) -> None:
    import importlib

    import torch
    from torch import _inductor
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    from reglab.training.fused.operations import module_of

    _without_outer_loop_fusion()
    torch.set_num_threads(request.settings.threads)
    torch.set_float32_matmul_precision(request.settings.precision)
    torch.use_deterministic_algorithms(request.settings.deterministic)
    for name in request.modules:
        importlib.import_module(name)
    for number, (operations, layouts) in enumerate(request.graphs):
        # Fake: of the parent's state and data no byte is held here.
        fake = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)
        with fake:
            inputs: list[Any] = [
                torch.empty_strided(each.shape, each.stride, dtype=each.dtype, device=each.device) for each in layouts
            ]
        with torch.no_grad():
            compiled = _inductor.standalone_compile(
                module_of(operations),
                inputs,
                dynamic_shapes="from_example_inputs",
                aot=True,
                donate_graph_module=True,
                fake_mode=fake,
            )
        compiled.save(path=str(Path(request.folder, str(number))), format="binary")  # at once whole: it is renamed


def _without_outer_loop_fusion() -> None:
    """Keep Inductor's CPU backend from putting a reduction and what follows it into one outer loop.

    In torch 2.13 that fails on some graphs with weights that change in place (``KeyError: 'bufN'``,
    https://github.com/pytorch/pytorch/issues/188228), and on others it is wrong in silence, by a
    buffer that it shares among rows (https://github.com/pytorch/pytorch/issues/185702). There is no
    setting for it.
    """
    from torch._inductor.codegen.cpp import CppScheduling

    setattr(CppScheduling, "can_fuse_vertical_outer_loop", lambda *_: False)  # noqa: B010 - mypy forbids the plain form


def _read(source: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(source, size)
        if not part:
            os._exit(1)  # the parent is gone
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
