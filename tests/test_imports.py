"""The layers of the package, read from its sources: arrows point down only, and what is heavy is imported late."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reglab

PACKAGE = Path(reglab.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
# What of sweeps computes from plain numbers alone; a report may use it.
PURE = {f"reglab.sweeps.{name}" for name in (
    "selection", "grouping", "trial", "estimate", "cautions", "verdict", "words",
    "rules", "paired", "scored", "comparison", "claims", "evidence",
)}  # fmt: skip
BOTTOM = {"errors", "direction", "draws", "durable", "markdown", "paths", "configure", "trust", "secrets", "signals"}
BOTTOM |= {"together", "launch", "examples"}
# What each layer may import of the package, besides itself. The command line is on top and may import everything.
BELOW = {
    "regularizers": BOTTOM,
    "measures": BOTTOM,
    "models": BOTTOM,
    "data": BOTTOM,
    "tracking": BOTTOM,
    "training": BOTTOM | {"regularizers", "measures", "models", "data", "tracking"},
    "explain": BOTTOM,  # Hydra's errors in our words, for the sweep's check and the command line
    "admission": BOTTOM,  # what a composed config must pass, likewise
    "sweeps": BOTTOM
    | {"explain", "admission", "training", "regularizers", "measures", "models", "data", "tracking", "reports"},
    "reports": BOTTOM | {"tracking"},
    **dict.fromkeys(BOTTOM, BOTTOM),
}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield every module that ``path`` imports, as ``a.b``, and whether it does so when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node not in late


def layer(module: str) -> str:
    """Return ``data`` for ``reglab.data.split``, and the empty string for another package's module."""
    parts = module.split(".")
    return parts[1] if parts[0] == "reglab" and len(parts) > 1 else ""


def in_layer(*names: str) -> list[Path]:
    found = [path for path in SOURCES if layer(name_of(path)) in names]
    assert found
    return found


def external(path: Path, at_once: bool = False) -> set[str]:
    """Return the packages other than ours that ``path`` imports."""
    return {module.split(".")[0] for module, now in imports(path) if now or not at_once} - {"reglab"}


@pytest.mark.parametrize("name", sorted(BELOW))
def test_arrows_point_down_only(name: str) -> None:
    wrong = []
    for path in in_layer(name):
        for module, _ in imports(path):
            below = layer(module)
            pure = name == "reports" and any(module == one or module.startswith(f"{one}.") for one in PURE)
            if below and below != name and below not in BELOW[name] and not pure:
                wrong.append(f"{name_of(path)} -> {module}")
    assert wrong == []


def test_every_module_has_its_layer() -> None:
    """A new folder is put into the order above, or it is the command line's."""
    top = {
        "__main__",
        "cli",
        "agreement",
        "app",
        "catalogue",
        "commands",
        "commands_runs",
        "completion",
        "completion_scripts",
        "help",
        "modes",
        "resume",
        "single",
    }
    assert {layer(name_of(path)) for path in SOURCES} - {""} == set(BELOW) | top


def test_the_pure_modules_of_sweeps_import_each_other_and_the_bottom_alone() -> None:
    for path in in_layer("sweeps"):
        if name_of(path) in PURE:
            ours = {module.rpartition(".")[0] for module, _ in imports(path) if layer(module)}
            assert {module for module in ours if layer(module) not in BOTTOM} <= PURE
            assert not external(path) & {"torch", "hydra", "omegaconf", "mlflow", "pytorch_lightning"}


@pytest.mark.parametrize("name", ["regularizers", "measures", "models", "data"])
def test_methods_measures_models_and_data_can_be_lifted_into_any_program(name: str) -> None:
    for path in in_layer(name):
        frameworks = {"pytorch_lightning", "lightning_fabric", "lightning", "hydra", "omegaconf", "mlflow"}
        assert not external(path) & frameworks, path


def test_a_regularizer_needs_torch_alone() -> None:
    for path in in_layer("regularizers"):
        assert external(path) - set(sys.stdlib_module_names) <= {"torch"}, path


def test_only_mlflow_modules_import_mlflow() -> None:
    users = {path for path in SOURCES if "mlflow" in external(path)}
    assert users
    assert all(layer(name_of(path)) == "tracking" and path.name.startswith("mlflow") for path in users)


def test_lightning_is_imported_by_training_alone_and_hydra_by_the_top() -> None:
    for path in SOURCES:
        if {"pytorch_lightning", "lightning_fabric", "lightning"} & external(path):
            assert layer(name_of(path)) == "training", path
        if "hydra" in external(path):
            assert layer(name_of(path)) not in set(BELOW) - {"explain", "admission", "training", "sweeps"}, path


def test_no_module_imports_itself_in_a_circle() -> None:
    """Among what is imported at once; a late import is a choice."""
    known = {name_of(path) for path in SOURCES}
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        found = {module if module in known else module.rpartition(".")[0] for module, now in imports(path) if now}
        graph[name_of(path)] = (found & known) - {name_of(path)}
    while leaves := {module for module, needs in graph.items() if not needs}:
        graph = {module: needs - leaves for module, needs in graph.items() if module not in leaves}
    assert graph == {}


@pytest.mark.parametrize("name", reglab.__all__)
def test_every_public_name_resolves_and_says_what_it_is(name: str) -> None:
    assert getattr(reglab, name).__doc__
    assert name in dir(reglab)


def test_another_name_is_an_attribute_error() -> None:
    assert not hasattr(reglab, "L3")
    with pytest.raises(AttributeError, match="L3"):
        _ = reglab.L3


@pytest.mark.parametrize(
    "program, absent",
    [
        ("import reglab", {"torch", "numpy", "pandas", "hydra", "mlflow", "pytorch_lightning", "sklearn"}),
        ("from reglab import L1, Dropout", {"mlflow", "hydra", "omegaconf", "pytorch_lightning", "pandas"}),
        ("import reglab.tracking", {"mlflow", "torch"}),
        ("from reglab.analysis import selection, verdict", {"torch", "mlflow", "hydra"}),
    ],
)
def test_what_is_heavy_is_imported_when_it_is_needed(program: str, absent: set[str]) -> None:
    words = [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())


def test_the_modules_named_here_exist() -> None:
    for module in PURE:
        assert importlib.util.find_spec(module) is not None
