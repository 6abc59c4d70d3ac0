"""What somebody else could write into the files of a run: each would end in a traceback, wait, or fill the memory.

The corpus grows: new content is a function here, and every command is tried on it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from reglab.training import checkpoint_files
from security.hostile_folders import change_identity

DEEP = "[" * 100_000 + "]" * 100_000
ADVICE = "http://127.0.0.1:9/$(touch PWNED);touch PWNED"


def _text(name: str, text: str | bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(text if isinstance(text, bytes) else text.encode()) and None


def _identity(**values: object) -> Callable[[Path], None]:
    return lambda run: change_identity(run, **values)


def _line(line: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        with (run / "journal.jsonl").open("a") as journal:
            journal.write(f"{line}\n")
        (run / "journal.sent").unlink()

    return change


def _config(key: str, value: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        content = yaml.safe_load((run / "config.yaml").read_text())
        group, _, name = key.partition(".")
        (content[group] if name else content)[name or group] = value
        (run / "config.yaml").write_text(yaml.safe_dump(content))

    return change


def _checkpoint(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Change what each checkpoint of the run holds; whoever writes one can seal it."""

    def rewrite(run: Path) -> None:
        for name in ("last", "best"):
            path = run / "checkpoints" / f"{name}.ckpt"
            content = torch.load(path, weights_only=True)
            change(content)
            path.unlink()
            checkpoint_files.write(content, path)
            shutil.rmtree(checkpoint_files.previous(path), ignore_errors=True)

    return rewrite


def _described(**values: object) -> Callable[[Path], None]:
    return _checkpoint(lambda content: content["hyper_parameters"].update(values))


CONTENTS: dict[str, Callable[[Path], None]] = {
    "an identity nested without end": _text("run.json", DEEP),
    "an address that is none": _identity(uri="http://[::1"),
    "a port that is none": _identity(uri="http://127.0.0.1:99999999"),
    "an address that a shell would run": _identity(uri=ADVICE),
    "a place with a null character": _identity(place="a\0"),
    "a database in memory": _identity(uri="sqlite:///:memory:"),
    "a working folder with a null character": _line(r'{"time": 1, "tags": {"reglab.working_folder": "a\u0000"}}'),
    "a line nested without end": _line(DEEP),
    "a step beyond all numbers": _line('{"time": 1, "step": 1e400, "metrics": {"a": 1}}'),
    "artifacts nested without end": _text("artifacts.left", DEEP),
    "a pack nested without end": _text("pack.json", DEEP),
    "a start nested without end": _text("start.json", DEEP),
    "a configuration without keys": _text("config.yaml", "{}\n"),
    "a configuration of lists": _config("trainer", [1]),
    "measurements that are a number": _config("measure", 5),
    "tracking that is a word": _config("tracking", "x"),
    "layers without end": _config("model.depth", 10**9),
    "a layer without end": _config("model.width", 10**12),
    "processes without end": _config("trainer.devices", 10**6),
    "a folder of Lightning's": _config("trainer.default_root_dir", "../../escaped"),
    "a profiler": _config("trainer.profiler", "advanced"),
    "a checkpoint without weights": _checkpoint(lambda content: content.pop("state_dict")),
    "weights that are a list": _checkpoint(lambda content: content.update(state_dict=[1])),
    "a version that is none": _checkpoint(lambda content: content.update({"pytorch-lightning_version": "<x>"})),
    "an optimizer that is another": _checkpoint(lambda content: content.update(optimizer_states=[{"state": {}}])),
    "inputs without end": _described(input_shape=[10**12]),
    "outputs that are a text": _described(outputs="x"),
    "a task that is none": _described(task="<script>"),
}
