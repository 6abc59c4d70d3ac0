"""One gate each for folders, stores and output: who reads, contacts or prints passes it, counted in the sources."""

import ast
from pathlib import Path

import pytest

import reglab

PACKAGE = Path(reglab.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}

# Which functions call a gate, by the module that they are in. A new place where a folder is read, a store is contacted
# or a process begins belongs here, or it is a way around the gate.
CALLERS = {
    "check_run_folder": {
        "tracking/folder.py:read_identity", "tracking/run_state.py:read_state", "tracking/run_state.py:last_status",
        "tracking/run_start.py:read_start", "tracking/pack_manifest.py:read", "training/restore.py:checkpoint_of",
    },
    "check_sweep_folder": {"cli/resume.py:resume", "sweeps/parent.py:open_or_resume", "sweeps/function_sweep.py:_open"},
    "check_store": {
        "cli/resume.py:_check_store", "cli/configured_store.py:check_configured_store", "sweeps/preflight.py:_fault",
        "tracking/__init__.py:send", "tracking/__init__.py:_sender", "tracking/mlflow/read.py:find_run",
        "tracking/mlflow/sync.py:_store",
    },
    "check_configured_store": {"cli/train.py:_run", "cli/resume.py:_resume_run"},
    "check_artifact_store": {
        "tracking/mlflow/read.py:artifact_path", "tracking/mlflow/read.py:copy_artifact",
        "tracking/mlflow/sink.py:_check_home", "tracking/mlflow/sql_sink.py:_home",
        "tracking/mlflow/models.py:_log",
    },
    "local_home": {
        "tracking/mlflow/read.py:artifact_path", "tracking/mlflow/read.py:copy_artifact",
        "tracking/mlflow/sink.py:_check_home", "tracking/mlflow/sql_sink.py:_home",
        "tracking/mlflow/models.py:_log",
    },
    "guard_output": {"core/output.py:prepare_output"},
    "prepare_output": {"cli/command.py:main", "processes/child_processes.py:_call"},
}  # fmt: skip
# Where the names of files in a run's folder may be opened: what comes behind a gate, or writes a new run.
MADE_BY = {
    "MlflowClient": {"tracking/mlflow/store.py:connect"},
    "download_artifacts": {"tracking/mlflow/read.py:call"},
    "_download": {"tracking/mlflow/read.py:artifact_path", "tracking/mlflow/read.py:copy_artifact"},
    "Process": {"processes/child_processes.py:start"},
    "write_position": {"tracking/sender.py:acknowledge"},
}


def callers(name: str) -> set[str]:
    """Return ``module:function`` of each call of ``name``, also as an attribute."""
    found = set()
    for module, tree in SOURCES.items():
        stack: list[tuple[ast.AST, str]] = [(tree, "")]
        while stack:
            node, function = stack.pop()
            if isinstance(node, ast.FunctionDef):
                function = node.name
            if isinstance(node, ast.Call):
                called = node.func
                plain = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
                owner = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
                if plain == name and owner != "psutil":
                    found.add(f"{module}:{function}")
            stack += [(child, function) for child in ast.iter_child_nodes(node)]
    return found


@pytest.mark.parametrize("gate", CALLERS)
def test_the_callers_of_a_gate(gate: str) -> None:
    assert callers(gate) == CALLERS[gate]


@pytest.mark.parametrize("name", MADE_BY)
def test_what_a_gate_stands_in_front_of_is_called_behind_it_only(name: str) -> None:
    assert callers(name) == MADE_BY[name]


def test_no_store_of_an_identity_is_contacted_without_the_gate() -> None:
    """What ``run.json`` says reaches a sink or a client only through ``check_store``."""
    contacts = {"LateSink", "connect", "get_run", "RunCreator", "amend", "find_runs"}
    seen = 0
    for module, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in contacts:
                text = ast.unparse(node)
                seen += 1
                assert "identity.uri" not in text or "check_store(identity.uri" in text, f"{module}: {text}"
    assert seen > 10


def test_output_is_written_by_the_guarded_streams_alone() -> None:
    """Nothing writes to Python's own streams, or past them to their descriptors."""
    for module, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in ("sys.__stdout__", "sys.__stderr__", "sys.stdout.buffer"), module
