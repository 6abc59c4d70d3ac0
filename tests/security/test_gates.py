"""One gate for configs: who reads one, checks it, trusts or builds by it. A new caller is added here, knowingly."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import reglab

PACKAGE = Path(reglab.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
# By the name of what is called, the number of calls in each file.
GATES = {
    # Composed configs: of a command, of --cfg; of a run that is resumed; of a job of a sweep, in whichever process.
    "check_config": {"cli/train.py": 2, "cli/resume.py": 1, "launchers/compose.py": 1},
    "create_hydra": {"cli/train.py": 1},
    # Files: config.yaml, multirun.yaml, whatever is composed, config.yaml of an older version; help and completion.
    "read_mapping": {
        "cli/configured_store.py": 1,
        "cli/resume.py": 1,
        "cli/sweep_command.py": 1,
        "config/config_loader.py": 1,
        "config/used_keys.py": 1,  # of the project itself
        "training/warm_start.py": 1,
    },
    "read_plain": {"cli/config_options.py": 1},
    "check_yaml": {"config/yaml_file.py": 2},
    # Configs in checkpoints: for reglab.load, reglab.predictor, the test part and the report.
    "resolved": {
        "inference/find.py": 1,
        "inference/testing.py": 2,
        "training/restore.py": 6,
        "training/lightning/testing.py": 3,
    },
    # Trust: of the command line, and the same in the processes that it starts.
    "trust_given": {"cli/train.py": 1, "cli/resume.py": 1, "cli/predict.py": 1, "cli/test.py": 1, "cli/export.py": 1},
    "trust": {
        "cli/import_path.py": 1,
        "cli/train.py": 1,
        "launchers/worker.py": 1,
        "sweeps/data_check.py": 1,
        "sweeps/dry_run.py": 1,
    },
    # Classes.
    "locate": {
        "config/hydra_node.py": 1,
        "config/instantiate.py": 1,
        "data/lightning_data.py": 1,
        "data/map_dataset.py": 1,
        "models/build.py": 1,
        "tasks/find.py": 1,
        "training/data_shape.py": 1,
        "training/lightning/data_module.py": 1,
        "training/own_module.py": 1,
        "training/own_callbacks.py": 1,
        "training/recipe.py": 1,
        "training/schedule.py": 1,
    },
    # Nested objects of a user's LightningModule and of its data, behind the class that the user trusts.
    "build_arguments": {
        "data/lightning_data.py": 1,
        "training/lightning/data_module.py": 1,
        "training/own_callbacks.py": 1,
        "training/own_module.py": 1,
    },
}
# What reads or builds without a gate, where it stands behind one.
BEHIND = {
    "OmegaConf.load": {"config/yaml_file.py": 1},
    "yaml.load": {"config/yaml_file.py": 1},
    "yaml.parse": {"config/yaml_file.py": 1},
    "yaml.safe_load": {"config/class_weight.py": 1},  # of a word of the user's own command line
    ".compose_config": {"cli/train.py": 1, "cli/run_mode.py": 1},
    ".show_cfg": {"cli/train.py": 1},
    ".show_info": {"cli/train.py": 1},
    ".load_sweep_config": {"launchers/compose.py": 1},
    "Callbacks": {"cli/train.py": 1, "cli/single_run.py": 1},
    ".instantiate_sweeper": {"cli/train.py": 1},
    "run_job": {"cli/single_run.py": 1, "launchers/run_group.py": 1, "launchers/task.py": 1},
    "run_module_job": {"launchers/task.py": 1},
}
NOWHERE = ("create_main_hydra2", "initialize_config_dir", "from_dotlist", "full_load", "unsafe_load", "instantiate")


def calls() -> dict[str, Counter[str]]:
    """Return the calls of each name by file: as it is written, and of ``a.b.c`` also as ``.c``."""
    found: dict[str, Counter[str]] = {}
    for name, path in SOURCES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                written = ast.unparse(node.func)
                last = {f".{node.func.attr}"} if isinstance(node.func, ast.Attribute) else set()
                for called in {written, *last}:
                    found.setdefault(called, Counter())[name] += 1
    return found


CALLS = calls()


@pytest.mark.parametrize("name", [*GATES, *BEHIND])
def test_its_callers_are_these(name: str) -> None:
    assert dict(CALLS.get(name, {})) == {**GATES, **BEHIND}[name]


@pytest.mark.parametrize("name", NOWHERE)
def test_nobody_calls(name: str) -> None:
    assert not CALLS.get(name)
    assert not CALLS.get(f".{name}")


def test_the_calls_are_found() -> None:
    assert len(SOURCES) > 150
    assert CALLS[".open"].total() > 3
