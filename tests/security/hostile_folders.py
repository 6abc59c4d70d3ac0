"""Folders of runs as somebody else could send them: each would touch something outside, or hang, if it could.

The corpus grows: a new trap is a function here, and every command is tried on it.
"""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

PRECIOUS = "mine, and to stay so\n"
STRANGER = "http://127.0.0.1:9"


def _replace(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def _link(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, precious: _replace(folder / name).symlink_to(precious)


def _pipe(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, precious: os.mkfifo(_replace(folder / name))


def _linked_folder(name: str) -> Callable[[Path, Path], None]:
    def trap(folder: Path, precious: Path) -> None:
        if (folder / name).is_dir():
            (folder / name).rename(folder.parent / f"moved-{name}")
        (folder / name).symlink_to(precious.parent, target_is_directory=True)

    return trap


def _second_name(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, precious: os.link(precious, _replace(folder / name))


def _socket(folder: Path, precious: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("journal.sent.new")
    finally:
        os.chdir(here)


def _link_to_parent(folder: Path, precious: Path) -> None:
    (folder / "checkpoints" / "last.ckpt").unlink(missing_ok=True)
    (folder / "checkpoints" / "last.ckpt").symlink_to("../../../../precious")


def _circle(folder: Path, precious: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    _replace(folder / "config.yaml").symlink_to(precious)


def _partials(folder: Path, precious: Path) -> None:
    for name in ("run.json", "metrics.parquet", "config.yaml"):
        (folder / f".{name}.{os.getpid()}.partial").symlink_to(precious)


FOLDERS: dict[str, Callable[[Path, Path], None]] = {
    "a link as journal": _link("journal.jsonl"),
    "a link as what was sent": _link("journal.sent"),
    "a link as the next position": _link("journal.sent.new"),
    "a link as identity": _link("start.json"),
    "a link as configuration": _link("config.yaml"),
    "a link as lock": _link("run.lock"),
    "a link as log": _link("train.log"),
    "a link as error": _link("error.txt"),
    "a link as manifest of a pack": _link("pack.json"),
    "a dangling link": lambda folder, precious: (folder / "report.html").symlink_to(precious.parent / "new"),
    "linked checkpoints": _linked_folder("checkpoints"),
    "a linked folder of Hydra": _linked_folder(".hydra"),
    "a linked earlier run": _linked_folder("earlier-1"),
    "a link by the parent": _link_to_parent,
    "a circle of links": _circle,
    "links in the place of temporary files": _partials,
    "a second name as journal": _second_name("journal.jsonl"),
    "a second name as the next position": _second_name("journal.sent.new"),
    "a second name as lock": _second_name("run.lock"),
    "a pipe as journal": _pipe("journal.jsonl"),
    "a pipe as configuration": _pipe("config.yaml"),
    "a pipe as start": _pipe("start.json"),
    "a pipe as what was sent": _pipe("journal.sent"),
    "a pipe as checkpoint": _pipe("checkpoints/last.ckpt"),
    "a pipe as manifest of a pack": _pipe("pack.json"),
    "a socket": _socket,
}


def change_identity(folder: Path, **values: object) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
