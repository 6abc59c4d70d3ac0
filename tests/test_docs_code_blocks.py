"""Every fenced block of README.md, CONTRIBUTING.md and docs/ runs, or is at least composed against conf/.

Blocks of one page run in their order, in one folder and one namespace:

- ``python``: executed as it stands. One whose first line is a path is written to that file, too: tests in it are
  called, and a module of ``src/reglab/`` is imported under its name and stands where CONTRIBUTING says it is entered.
- ``bash``: the block is parsed by bash, and every line of ours in it is run: ``reglab train`` with ``SHORT`` behind it;
  a sweep is planned, composed and checked job by job, and not launched, but for that of CONTRIBUTING, which its own
  launcher runs here. ``RUN`` and ``SWEEP`` are a run and a sweep that were made before.
- ``yaml`` and ``ini``: parsed; a yaml whose first line is a path is written there, and the lines below compose it.
- ``text``: nothing.

A comment above a block in the page's source, with a reason, makes it ``compose only`` (a run is composed and not
trained, other commands are parsed) or ``skip``.
"""

import configparser
import copy
import importlib
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import docs_pages
from docs_pages import ROOT, Block

SHORT = ("trainer.max_epochs=1", "data.train_size=60")
LONGER = "trainer.max_epochs=2"  # how much longer a finished run is trained
LANGUAGES = {"python", "bash", "yaml", "ini", "text"}
# What is of others, in a line: bash parses it, and it is not run.
OTHERS = {
    *("source", "eval", "export", "pip", "mlflow", "curl", "code=$?", "if", "exit", "pytest", "cd", "apt"),
    *("--host", "--cors-allowed-origins", "-d"),
}
SLURM = {"SLURM_NNODES": "1", "SLURM_JOB_ID": "1"}
SWEPT = ("regularizer=[l2]", "regularizer.l2.strength=1e-3,1e-2")  # stands for the dots of `reglab train -m ...`

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*tensorboard:UserWarning"),
]


class ParsedError(Exception):
    """A command's words were parsed, and it goes no further."""


class Page:
    """Runs the blocks of a page in ``folder``.

    sweep: returns the folder in which a finished sweep was run, and the sweep's own.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, sweep: Callable[[], tuple[Path, Path]]) -> None:
        self.folder, self.monkeypatch, self.sweep = folder, monkeypatch, sweep
        self.namespace: dict[str, Any] = {"__name__": "__main__"} | readers_own()
        self.launches = False  # whether sweeps are launched, too

    def run(self, block: Block) -> None:
        if block.mark != "skip":
            getattr(self, f"_{block.language}")(block)

    def _text(self, block: Block) -> None:
        pass

    def _ini(self, block: Block) -> None:
        configparser.ConfigParser().read_string(block.text)

    def _yaml(self, block: Block) -> None:
        assert isinstance(yaml.safe_load(block.text), dict)
        if block.file:
            self._write(block)

    def _python(self, block: Block) -> None:
        code = compile(block.text, block.file or f"block at line {block.line}", "exec")
        if block.file is None:
            exec(code, self.namespace)
            return
        path = self._write(block)
        if block.file.startswith("src/"):
            self._enter(path, ".".join(Path(block.file).with_suffix("").parts[1:]))
        elif block.file.startswith("tests/"):
            names: dict[str, Any] = {"__name__": "example"}
            exec(code, names)
            tests = [value for name, value in names.items() if name.startswith("test_")]
            assert tests
            for test in tests:
                test()
        else:
            module = importlib.import_module(".".join(Path(block.file).with_suffix("").parts))
            if block.file.startswith("hydra_plugins/"):
                self._register(module)

    def _write(self, block: Block) -> Path:
        assert block.file is not None
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        importlib.invalidate_caches()
        return path

    def _enter(self, path: Path, name: str) -> None:
        """Import a module of ours, and enter what it defines where the others of its kind stand."""
        from reglab.data.assemble import SOURCES

        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        self.monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        package = importlib.import_module(name.rpartition(".")[0])
        for own in [each for each in vars(module).values() if getattr(each, "__module__", None) == name]:
            self.monkeypatch.setattr(package, own.__name__, own, raising=False)
            if package.__name__ == "reglab.data":
                self.monkeypatch.setitem(SOURCES, own.__name__, own)

    def _register(self, module: Any) -> None:
        """Do what Hydra does with a plugin that it finds: this process has looked for them before."""
        from hydra.core.plugins import Plugins
        from hydra.plugins.launcher import Launcher

        for own in vars(module).values():
            if isinstance(own, type) and issubclass(own, Launcher) and not inspect.isabstract(own):
                Plugins.instance().register(own)
        self.launches = True

    def _bash(self, block: Block) -> None:
        subprocess.run(["bash", "-n", "-c", block.text], check=True)
        for line in block.text.replace("\\\n", " ").splitlines():
            for inner in re.findall(r"\$\(([^()]*)\)", line):
                if inner.startswith("reglab"):
                    self._command(shlex.split(inner), block)
            words = shlex.split(line, comments=True)
            if words:
                self._command(words, block)

    def _command(self, words: list[str], block: Block) -> None:
        compose_only = block.mark == "compose only"
        if words[0] in ("torchrun", "srun"):
            words, compose_only = words[words.index("reglab") :], True
        if words[0] == "python":
            words = words[1:]
        if words[0] == "reglab":
            self._reglab([self._filled(word) for word in words[1:]], compose_only)
        elif words[0].startswith("scripts/"):
            check_script(words)
        else:
            assert words[0] in OTHERS, f"{words[0]}: a command that this test does not know"

    def _filled(self, word: str) -> str:
        for name, value in SLURM.items():
            word = word.replace(f"${name}", value)
        if word == "RUN":
            return str(self._last_run())
        return str(self.sweep()[1]) if word == "SWEEP" else word

    def _last_run(self) -> Path:
        found = sorted(path.parent for path in self.folder.glob("runs/*/*/run.json"))
        if not found:
            assert self._main(["train", *SHORT]) == 0
            return self._last_run()
        return found[-1]

    def _reglab(self, words: list[str], compose_only: bool) -> None:
        if words[0] != "train" or "--help" in words:
            self._other(words, compose_only)
            return
        own_data = any(word in ("data=lightning", "data=points") for word in words)  # it has no size of ours
        short = SHORT[:1] if own_data else SHORT
        conf = ["--config-dir", "conf"] if (self.folder / "conf").is_dir() and "--config-dir" not in words else []
        words = ["train", *conf, *(each for word in words[1:] for each in (SWEPT if word == "..." else (word,)))]
        if "-m" in words:
            self._swept(words)
        elif compose_only:
            assert self._main([*words, "--cfg", "job"]) == 0
        else:
            assert self._main([*words, *short]) == 0

    def _swept(self, words: list[str]) -> None:
        with self.monkeypatch.context() as patch:
            patch.setattr("reglab.sweeps.sweep.check_data", lambda *_, **__: None)  # it takes a process of its own
            if self.launches and "hydra/launcher=serial" in words:
                assert self._main([*words, *SHORT]) == 0
                return
            patch.setattr("reglab.sweeps.sweep.dry_run", lambda *_: None)
            patch.setattr("hydra.core.plugins.Plugins.instantiate_launcher", lambda *_, **__: able_launcher())
            assert self._main([*words, "sweep.dry=true"]) == 0

    def _other(self, words: list[str], compose_only: bool) -> None:
        if compose_only:
            with self.monkeypatch.context() as patch:
                for method in ("parse_args", "parse_intermixed_args"):
                    patch.setattr(ArgumentParser, method, parsed(getattr(ArgumentParser, method)))
                with pytest.raises(ParsedError):
                    self._main(words)
            return
        if any(word.startswith("trainer.max_epochs=") for word in words):
            words = [word for word in words if not word.startswith("trainer.max_epochs=")] + [LONGER]
        elsewhere = any(Path(word).is_absolute() and self.folder not in Path(word).parents for word in words)
        sweep = self.sweep() if elsewhere else None
        with self.monkeypatch.context() as patch:
            if sweep:
                patch.chdir(sweep[0])
                patch.syspath_prepend(sweep[0])
                patch.setattr(self, "launches", self.launches)
                # Its launcher is entered again: the page that ran the sweep may have been another one.
                self._register(importlib.import_module("hydra_plugins.serial_launcher"))
                words = [*words, "trust=[hydra_plugins]"] if words[0] == "resume" else words
            patch.setattr("builtins.input", lambda *_: "no")
            assert self._main(words) == 0

    def _main(self, words: Sequence[str]) -> int:
        from reglab.cli.command import main

        return main(list(words))


def parsed(method: Callable[..., Any]) -> Callable[..., Any]:
    def parse(*arguments: Any, **options: Any) -> Any:
        method(*arguments, **options)
        raise ParsedError

    return parse


def check_script(words: Sequence[str]) -> None:
    """Check that a script is there, may be called so, and has every option that it is given."""
    path = ROOT / words[0]
    assert path.is_file(), words[0]
    assert path.suffix == ".py" or path.stat().st_mode & 0o100, f"{words[0]} is not executable"
    text = path.read_text() + "".join(other.read_text() for other in path.parent.glob(f"{path.stem}*.py"))
    for word in words[1:]:
        if word.startswith("--") and words[0] != "scripts/lock":
            assert f'"{word.partition("=")[0]}"' in text, f"{words[0]} has no {word}"
        elif "/" in word:
            assert (ROOT / word).exists(), word
    if words[0] == "scripts/setup":
        lock = (ROOT / "requirements.lock").read_text()
        assert all(f"# [{extra}]" in lock for extra in words[1:])


def readers_own() -> dict[str, Any]:
    """Return what the pages say the reader has: a LightningModule and its loaders."""
    import pytorch_lightning as pl
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(8, 3)

        def forward(self, inputs: torch.Tensor) -> Any:
            return self.net(inputs)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

    inputs = torch.randn(90, 8, generator=torch.Generator().manual_seed(0))
    train, val = (TensorDataset(part, part[:, :3].argmax(1)) for part in (inputs[:50], inputs[50:]))
    return {"module": Classifier(), "train_loader": DataLoader(train, 25), "val_loader": DataLoader(val, 40)}


NETWORK = """
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MyNet(nn.Sequential):
    def __init__(self, in_features: int, num_classes: int, hidden: int = 8) -> None:
        super().__init__(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


class LitModel(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    validation_step = training_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class MyData(pl.LightningDataModule):
    def train_dataloader(self):
        inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(inputs, inputs[:, :1]), 4)

    val_dataloader = train_dataloader
"""


def write_readers_own(folder: Path) -> None:
    """Write what the pages say lies in the reader's folder: tables, and a package."""
    rows = [f"{size},{'ab'[size % 2]},{2.0 * size + size % 3}" for size in range(120)]
    (folder / "houses.csv").write_text("\n".join(["size,street,price", *rows]) + "\n")
    rows = [f"{size},{2.0 * size + size % 3},{size % 5 // 3}" for size in range(120)]
    (folder / "offers.csv").write_text("\n".join(["size,price,sold", *rows]) + "\n")
    rows = [f"{age},{300 - age + age % 7},{int(age % 4 > 0)}" for age in range(200)]
    (folder / "patients.csv").write_text("\n".join(["age,days,died", *rows]) + "\n")
    rows = [f"q{row % 150},{row * 7 % 11},{row * 5 % 4}" for row in range(600)]
    (folder / "searches.csv").write_text("\n".join(["query,clicks,grade", *rows]) + "\n")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").write_text(NETWORK)


@pytest.fixture(scope="module")
def store(template: Path) -> bytes:
    """An empty SQLite store."""
    return template.read_bytes()


def able_launcher() -> Any:
    """Return a launcher that can do everything, and does nothing."""
    from reglab.launchers.request_launcher import Capabilities, RequestLauncher

    class Able(RequestLauncher):
        capabilities = Capabilities(waits=True, fuses=True, assigns_devices=True, shows_progress=True)

        def run(self, requests: Any, composer: Any) -> Any:
            raise NotImplementedError

    return Able()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, store: bytes) -> Callable[[], tuple[Path, Path]]:
    """Return what runs CONTRIBUTING's launcher and its sweep, once, and returns where, and the sweep's folder."""

    @cache
    def run() -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("sweep")
        with pytest.MonkeyPatch.context() as patch:
            page = page_in(folder, patch, store, run)
            for block in docs_pages.blocks(ROOT / "CONTRIBUTING.md"):
                if (block.file or "").startswith("hydra_plugins/") or "hydra/launcher=serial" in block.text:
                    page.run(block)
        (found,) = folder.glob("runs/*/*/multirun.yaml")
        return folder, found.parent

    return run


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave nothing behind of what commands and examples do to the process."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins
    from hydra.core.singleton import Singleton

    from reglab.config import trust
    from reglab.core import secrets
    from reglab.core.metric_direction import SCORES
    from reglab.measures.scores import RANKED
    from reglab.tasks.labels import OF_CLASSES

    monkeypatch.setattr(sys, "path", list(sys.path))
    known, held = set(sys.modules), (dict(SCORES), dict(RANKED))
    of_classes = list(OF_CLASSES)
    plugins = Plugins.instance()  # they are looked for once, and take seconds
    singletons = dict(Singleton._instances)
    options = copy.deepcopy(ConfigStore.instance().repo)
    launchers = {base: list(classes) for base, classes in plugins.plugin_type_to_subclass_list.items()}
    config = HydraConfig.instance().cfg
    with trust.isolated(), secrets.isolated():
        yield
    Singleton._instances.clear()
    Singleton._instances.update(singletons)
    ConfigStore.instance().repo = options
    plugins.plugin_type_to_subclass_list.update(launchers)
    HydraConfig.instance().cfg = config
    for name in set(sys.modules) - known:
        if name.split(".")[0] in ("my_package", "example") or name.startswith("hydra_plugins.serial_launcher"):
            del sys.modules[name]
    for table, content in zip((SCORES, RANKED), held, strict=True):
        table.clear()
        table.update(content)
    OF_CLASSES[:] = of_classes


def page_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, store: bytes, sweep: Callable[[], tuple[Path, Path]]
) -> Page:
    (folder / "reglab.db").write_bytes(store)
    write_readers_own(folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("HOUSES", "houses.csv")
    return Page(folder, monkeypatch, sweep)


@pytest.mark.parametrize("page", docs_pages.PAGES, ids=docs_pages.name_of)
def test_every_block_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: bytes, isolated: None, sweep: Any
) -> None:
    runner = page_in(tmp_path, monkeypatch, store, sweep)
    for block in docs_pages.blocks(page):
        try:
            runner.run(block)
        except BaseException as error:
            error.add_note(f"in the block of {docs_pages.name_of(page)}, line {block.line}")
            raise


@pytest.mark.parametrize("page", docs_pages.PAGES, ids=docs_pages.name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = list(docs_pages.blocks(page))
    assert {block.language for block in found} <= LANGUAGES
    assert text.count("```") == 2 * len(found)
    assert text.count("<!-- test:") == sum(block.mark is not None for block in found)
