"""The layers of the package, read from its sources: arrows point down only, and what is heavy is imported late."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest

import reglab

PACKAGE = Path(reglab.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
# What each package may import of ours beside itself, the lowest first: only what stands above it here. A package that
# has packages in it is two layers: its modules below those packages, its ``__init__``, the front, above them.
LAYERS = {
    "core": set(),
    "rng": set(),
    "analysis": {"core"},
    "analysis.bias_variance": {"core", "analysis"},
    "analysis front": set(),
    "config": {"core"},
    "processes": {"core"},
    "tasks": {"core", "rng", "config"},
    "data": {"core", "rng", "analysis", "config", "processes", "tasks"},
    "measures": {"core", "rng", "config", "tasks"},
    "regularizers": {"core", "rng", "tasks"},
    "models": {"core", "config"},
    "optimizers": {"core"},
    "tracking": {"core"},
    "tracking.mlflow": {"core", "tracking"},
    "tracking.admin": {"core", "processes", "tracking", "tracking.mlflow"},
    "tracking front": {"core", "tracking", "tracking.mlflow", "tracking.admin"},
    "reports.figures": {"core", "analysis", "analysis.bias_variance"},
    "reports": {
        "core",
        "analysis",
        "analysis.bias_variance",
        "tracking",
        "tracking.mlflow",
        "tracking front",
        "reports.figures",
    },
    "reports front": set(),
    "distributed": {"core", "processes", "tasks", "measures", "regularizers", "optimizers"},
}
NO_HYDRA = {f"reglab.config.{name}" for name in ("instantiate", "lightning_loop", "objects")}
METHODS = {"tasks", "regularizers", "measures", "models", "data"}
LAYERS["training"] = set(LAYERS) - {"tracking.admin", "reports", "reports.figures", "reports front"}
LAYERS["training.fused"] = LAYERS["training"] | {"training"}
LAYERS["training front"] = set()
LAYERS["api"] = {
    "core",
    "analysis",
    "analysis.bias_variance",
    "reports",
    "reports.figures",
    "training.fused",
    "processes",
    "tasks",
    "data",
    "models",
    "measures",
    "regularizers",
    "tracking front",
    "training",
}
LAYERS["api.claims"] = LAYERS["api"]
LAYERS["api front"] = set()
LAYERS["callback"] = {"core", "analysis", "tasks", "measures", "regularizers", "distributed", "training"}
LAYERS["huggingface"] = LAYERS["callback"] | {"callback", "tracking", "tracking front"}
LAYERS["training.lightning"] = LAYERS["training"] | {"training", "training.fused", "callback"}
LAYERS["inference"] = set(LAYERS) - {
    "api",
    "api.claims",
    "callback",
    "tracking.admin",
    "reports.figures",
    "reports front",
    "training.fused",
}
LAYERS["launchers"] = {
    "core",
    "analysis",
    "config",
    "processes",
    "tracking",
    "tracking front",
    "training",
    "training.fused",
    "training.lightning",
}
LAYERS["sweeps"] = set(LAYERS) - {
    "rng",
    "api",
    "api.claims",
    "callback",
    "huggingface",
    "distributed",
    "reports.figures",
}
LAYERS["cli"] = set(LAYERS)
# Where no module imports torch when it is itself imported: the command line answers without it.
WITHOUT_TORCH = {"core", "analysis", "config", "processes", "tracking", "reports", "launchers", "sweeps", "cli"}
WITH_HYDRA = {"class_weight", "validate", "error_messages", "sweep_functions", "job_request"}  # of config
WITH_HYDRA |= {"config_loader", "hydra_context", "hydra_node", "used_keys"}
LIGHTNING = {"pytorch_lightning", "lightning_fabric", "lightning"}


@cache
def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {name_of(path): path for path in SOURCES}
PACKAGES = {name_of(path) for path in SOURCES if path.name == "__init__.py"} - {"reglab"}
PARENTS = {name.rpartition(".")[0] for name in PACKAGES}


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Return every module that ``path`` imports, as ``a.b``, and whether it does so when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.extend((alias.name, node not in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                module = whole if whole in KNOWN or not whole.startswith("reglab.") else str(node.module)
                found.append((module, node not in late))
    return found


def ours(path: Path) -> Iterator[tuple[str, bool]]:
    for module, now in imports(path):
        assert module != "reglab", f"{path} imports the package's own front"
        if module.startswith("reglab."):
            assert module in KNOWN, f"{path} imports {module}, which is not there"
            yield module, now


def layer(module: str) -> str:
    """Return ``data`` for ``reglab.data.split``, ``tracking front`` for ``reglab.tracking``."""
    if module in PACKAGES:
        return module.removeprefix("reglab.") + (" front" if module in PARENTS else "")
    return module.rpartition(".")[0].removeprefix("reglab").removeprefix(".")


def in_layer(*names: str) -> list[Path]:
    """Return the modules of these packages, and of those inside them."""
    found = [path for path in SOURCES if layer(name_of(path)).split(" ")[0].split(".")[0] in names]
    assert found
    return found


def external(path: Path, at_once: bool = False) -> set[str]:
    """Return the packages other than ours that ``path`` imports."""
    return {module.split(".")[0] for module, now in imports(path) if now or not at_once} - {"reglab"}


def test_the_root_holds_packages_alone() -> None:
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "py.typed"}


def test_every_module_has_its_layer() -> None:
    assert {layer(name_of(path)) for path in SOURCES} - {""} == set(LAYERS)


def test_what_a_layer_may_import_stands_below_it() -> None:
    lower: set[str] = set()
    for name, below in LAYERS.items():
        assert below <= lower, name
        lower.add(name)


@pytest.mark.parametrize("name", LAYERS)
def test_arrows_point_down_only(name: str) -> None:
    wrong = [
        f"{name_of(path)} -> {module}"
        for path in SOURCES
        if layer(name_of(path)) == name
        for module, _ in ours(path)
        if layer(module) not in LAYERS[name] | {name}
    ]
    assert wrong == []


def test_packages_form_no_cycle() -> None:
    """Counting what is imported late and for types too."""
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        own = layer(name_of(path))
        graph.setdefault(own, set()).update({layer(module) for module, _ in ours(path)} - {own})
    while leaves := {name for name, needs in graph.items() if not needs}:
        graph = {name: needs - leaves for name, needs in graph.items() if name not in leaves}
    assert graph == {}


def test_no_module_imports_itself_in_a_circle() -> None:
    """Among what is imported at once; a late import is a choice."""
    graph = {name: {module for module, now in ours(path) if now} - {name} for name, path in KNOWN.items()}
    while leaves := {module for module, needs in graph.items() if not needs}:
        graph = {module: needs - leaves for module, needs in graph.items() if module not in leaves}
    assert graph == {}


@pytest.mark.parametrize("name", sorted(WITHOUT_TORCH))
def test_a_package_without_torch_imports_what_has_it_late(name: str) -> None:
    with_torch = {key.split(" ")[0].split(".")[0] for key in LAYERS} - WITHOUT_TORCH
    for path in in_layer(name):
        assert "torch" not in external(path, at_once=True), path
        at_once = {module for module, now in ours(path) if now}
        assert not {module for module in at_once if module.split(".")[1] in with_torch}, path


@pytest.mark.parametrize("name", sorted({key.split(" ")[0].split(".")[0] for key in LAYERS} - WITHOUT_TORCH))
def test_a_package_with_torch_imports_it(name: str) -> None:
    assert any("torch" in external(path, at_once=True) for path in in_layer(name))


def test_analysis_computes_from_plain_numbers() -> None:
    for path in in_layer("analysis"):
        assert external(path) - set(sys.stdlib_module_names) <= {"numpy", "scipy"}, path


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_measures_models_and_data_can_be_lifted_into_any_program(name: str) -> None:
    for path in in_layer(name):
        assert not external(path) & (LIGHTNING | {"hydra", "omegaconf", "mlflow"}), path
        from_config = {module for module, _ in ours(path) if layer(module) == "config"}
        assert from_config <= NO_HYDRA, path


def test_a_regularizer_needs_torch_alone() -> None:
    for path in in_layer("regularizers", "tasks", "rng"):
        assert external(path) - set(sys.stdlib_module_names) <= {"torch"}, path


def test_only_the_package_for_it_imports_mlflow() -> None:
    users = {layer(name_of(path)) for path in SOURCES if "mlflow" in external(path)}
    assert users == {"tracking.mlflow"}


def test_what_imports_mlflow_is_itself_imported_late() -> None:
    heavy = {name for name, path in KNOWN.items() if "mlflow" in external(path, at_once=True)}
    heavy |= {name for name, path in KNOWN.items() if heavy & {module for module, now in ours(path) if now}}
    for path in SOURCES:
        if layer(name_of(path)) != "tracking.mlflow":
            assert not heavy & {module for module, now in ours(path) if now}, path


def test_a_run_is_judged_by_its_state_and_its_journal_read_in_tracking_alone() -> None:
    readers = {name_of(path) for path in SOURCES if "reglab.tracking.journal_lines" in dict(imports(path))}
    assert {name for name in readers if not name.startswith("reglab.tracking.")} == set()
    deciding = {name for name in readers if "marked" in KNOWN[name].read_text(encoding="utf-8")}
    assert deciding == {"reglab.tracking.run_state"}


def test_lightning_is_imported_by_what_trains_and_hydra_by_what_it_calls() -> None:
    for path in SOURCES:
        top = name_of(path).split(".")[1:2]
        if LIGHTNING & external(path):
            assert top in (["training"], ["distributed"], ["callback"], ["api"]), path
        if "hydra" in external(path):
            assert top in (["config"], ["training"], ["launchers"], ["sweeps"], ["cli"]), path
            assert top != ["config"] or path.stem in WITH_HYDRA, path


def test_files_stay_small() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert median(lines.values()) <= 120
    assert {path: count for path, count in lines.items() if count > 350} == {}


def test_tests_mirror_the_package() -> None:
    kinds = {"laws", "chaos", "security", "server"}  # of tests that hold for the whole
    here = Path(__file__).parent
    folders = {path.parent.relative_to(here) for path in here.rglob("test_*.py")} - {Path()}
    unknown = {folder for folder in folders if not (PACKAGE / folder).is_dir() and folder.parts[0] not in kinds}
    assert unknown == set()


@pytest.mark.parametrize("name", reglab.__all__)
def test_every_public_name_resolves_and_says_what_it_is(name: str) -> None:
    assert getattr(reglab, name).__doc__
    assert name in dir(reglab)


def test_another_name_is_an_attribute_error() -> None:
    assert not hasattr(reglab, "L3")
    with pytest.raises(AttributeError, match="L3"):
        _ = reglab.L3


def everything_in(*names: str) -> str:
    modules = [name_of(path) for path in in_layer(*names)]
    return "\n".join(f"import {name}" for name in modules if not layer(name).startswith("tracking.mlflow"))


@pytest.mark.parametrize(
    "program, absent",
    [
        ("import reglab", {"torch", "numpy", "pandas", "hydra", "mlflow", "pytorch_lightning", "sklearn"}),
        ("from reglab import L1, Dropout", {"mlflow", "hydra", "omegaconf", "pytorch_lightning", "pandas"}),
        ("import reglab.tracking", {"mlflow", "torch"}),
        (everything_in("analysis"), {"torch", "mlflow", "hydra", "omegaconf"}),
        (everything_in("core", "tracking"), {"torch", "mlflow", "hydra", "pytorch_lightning"}),
        (everything_in(*WITHOUT_TORCH), {"torch", "mlflow", "pytorch_lightning", "sklearn"}),
    ],
)
def test_what_is_heavy_is_imported_when_it_is_needed(program: str, absent: set[str]) -> None:
    words = [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())
