"""Nothing that is read from a file may run code: every call that could is found in the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])
# Bytes that never were in a file: made in memory by a process of ours, for itself or for one that it started.
OWN_BYTES = {
    "src/reglab/launchers/compose.py": 1,
    "src/reglab/launchers/worker.py": 1,
    "src/reglab/training/fused/compile_process.py": 1,
    "src/reglab/api/spawn.py": 1,
    "scripts/chaos/commands.py": 1,
}
SAFE_LOADER = {"src/reglab/config/yaml_file.py"}  # in C where there is one, otherwise in Python, from a variable
NEVER = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "shelve.open", "dill.load", "dill.loads"),
    *("joblib.load", "cloudpickle.load", "cloudpickle.loads", "marshal.load", "marshal.loads", "pandas.read_pickle"),
    *("pd.read_pickle", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "yaml.full_load"),
    *("yaml.unsafe_load", "runpy.run_path", "runpy.run_module", "numpy.fromregex", "hydra.utils.instantiate"),
    *("hydra.utils.call", "hydra.utils.get_class", "hydra.utils.get_method", "hydra.utils.get_object"),
}
LAST = {"load_model", "read_pickle", "load_from_checkpoint"}
PICKLE = {"pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle.loads"}
# Calls that are safe with this argument alone.
WITH = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "np.load": ("allow_pickle", False),
    "trainer.fit": ("weights_only", True),
}


def wrong(text: str, path: str = "somewhere.py") -> list[str]:
    """Return what of a source is refused, with its line."""
    tree, pickles, found = ast.parse(text), 0, []
    names = dict(aliases(tree))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = full_name(node.func, names)
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        pickles += called in PICKLE
        needed = WITH.get(called)
        fits = () if "ckpt_path" in given else ("trainer.fit",)  # it reads nothing then
        if (
            called in NEVER
            or called.rpartition(".")[2] in LAST
            or (called in PICKLE and pickles > OWN_BYTES.get(path, 0))
            or (needed and given.get(needed[0]) is not needed[1] and called not in fits)
            or (called == "yaml.load" and "SafeLoader" not in ast.unparse(node) and path not in SAFE_LOADER)
            or (called.startswith("subprocess.") and given.get("shell"))
        ):
            found.append(f"{path}:{node.lineno}: {called}")
    return found


def aliases(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def full_name(node: ast.expr, names: dict[str, str]) -> str:
    """Return ``a.b.c`` of a called expression, its first part as it was imported."""
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def test_no_source_reads_what_could_run() -> None:
    assert len(SOURCES) > 100
    found = [line for path in SOURCES for line in wrong(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())]
    assert found == []


def test_the_exceptions_are_still_needed() -> None:
    for path, count in OWN_BYTES.items():
        text = (ROOT / path).read_text("utf-8")
        assert len(wrong(text)) == count


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import torch as t; t.load(path)",
        "from torch import load; load(path)",
        "import pickle; pickle.load(file)",
        "from pickle import loads as read; read(text)",
        "import pandas as pd; pd.read_pickle(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import numpy; numpy.load(path)",
        "import joblib; joblib.load(path)",
        "import mlflow; mlflow.pyfunc.load_model(uri)",
        "import yaml; yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "import subprocess; subprocess.run(text, shell=True)",
        "from hydra.utils import instantiate; instantiate(node)",
        "trainer.fit(module, ckpt_path=path)",
    ],
)
def test_the_search_finds_it(line: str) -> None:
    assert len(wrong(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.load(path, weights_only=True)",
        "import numpy as np; np.load(path, allow_pickle=False)",
        "import yaml; yaml.safe_load(text)",
        "import re; re.compile(text)",
        "model.eval()",
    ],
)
def test_the_search_leaves_alone(line: str) -> None:
    assert wrong(line) == []
